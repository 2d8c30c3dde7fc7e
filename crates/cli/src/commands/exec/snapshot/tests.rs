//! With real Git, and a look at every byte of the user's repository before and after.

use std::collections::BTreeMap;

use super::*;

struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        std::fs::create_dir(world.path("repo")).expect("made");
        world
    }

    /// A repository with one commit: `tracked`, `deleted`, `.gitignore`, `sub/inside`.
    fn with_repository() -> Self {
        let world = Self::new();
        let repo = world.path("repo");
        world.git(&repo, &["init", "-q", "-b", "main"]);
        for (name, text) in [
            ("tracked", "old"),
            ("deleted", "x"),
            (".gitignore", "*.log\n"),
            ("sub/inside", "in"),
        ] {
            write(&repo.join(name), text);
        }
        world.git(&repo, &["add", "-A"]);
        world.git(&repo, &["commit", "-q", "-m", "first"]);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn git(&self, directory: &Path, arguments: &[&str]) -> String {
        let output = std::process::Command::new("git")
            .args(["-c", "user.name=T", "-c", "user.email=t@example"])
            .args(["-c", "protocol.file.allow=always"])
            .args(arguments)
            .current_dir(directory)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("git");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    async fn snapshot(
        &self,
        directory: &Path,
        with_git: bool,
    ) -> (Snapshot, BTreeMap<String, String>) {
        let snapshot = take(
            directory,
            &self.path("snapshot.git"),
            with_git,
            Timestamp::UNIX_EPOCH,
        )
        .await
        .expect("a snapshot");
        snapshot
            .repository
            .set_ref("refs/heads/main", &snapshot.commit)
            .expect("set");
        // As a job gets it: cloned, not looked up.
        let clone = self.path("clone");
        let source = self.path("snapshot.git").display().to_string();
        self.git(
            self.directory.path(),
            &[
                "clone",
                "-q",
                "--no-local",
                "--depth",
                "1",
                &format!("file://{source}"),
                "clone",
            ],
        );
        let files = tree(&clone)
            .into_iter()
            .filter(|(name, _)| !name.starts_with(".git/"))
            .collect();
        (snapshot, files)
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    std::fs::write(path, text).expect("written");
}

/// All files below, with their content.
fn tree(directory: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path
                    .strip_prefix(directory)
                    .expect("below")
                    .display()
                    .to_string();
                let content = std::fs::read(&path).expect("read");
                files.insert(name, String::from_utf8_lossy(&content).into_owned());
            }
        }
    }
    files
}

fn names(files: &BTreeMap<String, String>) -> Vec<&str> {
    files.keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_change_in_the_second_of_the_commit_is_in_it_though_size_and_time_are_the_same() {
    let world = World::with_repository();
    let repo = world.path("repo");
    let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let of_then = |name: &str| {
        let file = std::fs::File::options().write(true).open(repo.join(name));
        file.and_then(|file| file.set_modified(then))
            .expect("its time is set");
    };
    // That a file's attributes changed says nothing here, as within a second.
    world.git(&repo, &["config", "core.trustctime", "false"]);
    of_then("tracked");
    world.git(&repo, &["add", "tracked"]);
    of_then(".git/index");
    write(&repo.join("tracked"), "new");
    of_then("tracked");
    let (_, files) = world.snapshot(&repo, true).await;
    assert_eq!(files["tracked"], "new");
}

#[tokio::test]
async fn changes_and_untracked_files_are_in_it_ignored_ones_are_not_and_the_repository_is_untouched()
 {
    let world = World::with_repository();
    let repo = world.path("repo");
    write(&repo.join("tracked"), "new");
    write(&repo.join("untracked"), "u");
    write(&repo.join("ignored.log"), "i");
    std::fs::remove_file(repo.join("deleted")).expect("removed");
    write(&repo.join("staged"), "s");
    world.git(&repo, &["add", "staged"]);
    let before = tree(&repo);
    let (snapshot, files) = world.snapshot(&repo, true).await;
    assert_eq!(tree(&repo), before);
    assert_eq!(
        names(&files),
        [".gitignore", "staged", "sub/inside", "tracked", "untracked"]
    );
    assert_eq!(files["tracked"], "new");
    let head = world.git(&repo, &["rev-parse", "HEAD"]);
    let parent = format!("{}^", snapshot.commit);
    assert_eq!(
        world.git(&world.path("snapshot.git"), &["rev-parse", &parent]),
        head
    );
}

#[tokio::test]
async fn a_clean_working_tree_is_its_own_commit() {
    let world = World::with_repository();
    let repo = world.path("repo");
    let (snapshot, files) = world.snapshot(&repo, true).await;
    assert_eq!(snapshot.commit, world.git(&repo, &["rev-parse", "HEAD"]));
    assert_eq!(files.len(), 4);
}

#[tokio::test]
async fn a_directory_inside_a_repository_becomes_the_root() {
    let world = World::with_repository();
    write(&world.path("repo/sub/fresh"), "f");
    let (_, files) = world.snapshot(&world.path("repo/sub"), true).await;
    assert_eq!(names(&files), ["fresh", "inside"]);
}

#[tokio::test]
async fn worktrees_shallow_and_sparse_checkouts_and_unborn_branches_work() {
    let world = World::with_repository();
    let repo = world.path("repo");
    world.git(&repo, &["commit", "-q", "--allow-empty", "-m", "second"]);

    let worktree = world.path("worktree");
    world.git(
        &repo,
        &[
            "worktree",
            "add",
            "-q",
            worktree.to_str().expect("text"),
            "-b",
            "other",
        ],
    );
    write(&worktree.join("mine"), "m");
    let before = tree(&repo);
    let (_, files) = world.snapshot(&worktree, true).await;
    assert_eq!(
        names(&files),
        [".gitignore", "deleted", "mine", "sub/inside", "tracked"]
    );
    assert_eq!(tree(&repo), before);

    let other = World::new();
    let url = format!("file://{}", repo.display());
    other.git(
        other.directory.path(),
        &["clone", "-q", "--depth", "1", &url, "repo2"],
    );
    write(&other.path("repo2/new"), "n");
    let (_, files) = other.snapshot(&other.path("repo2"), true).await;
    assert!(files.contains_key("new") && files.contains_key("tracked"));

    let sparse = World::with_repository();
    let repo = sparse.path("repo");
    sparse.git(&repo, &["sparse-checkout", "set", "--no-cone", "/tracked"]);
    write(&repo.join("elsewhere/new"), "n");
    let (_, files) = sparse.snapshot(&repo, true).await;
    assert_eq!(
        names(&files),
        [
            ".gitignore",
            "deleted",
            "elsewhere/new",
            "sub/inside",
            "tracked"
        ]
    );

    let unborn = World::new();
    unborn.git(&unborn.path("repo"), &["init", "-q"]);
    write(&unborn.path("repo/first"), "1");
    let (_, files) = unborn.snapshot(&unborn.path("repo"), true).await;
    assert_eq!(names(&files), ["first"]);
}

#[tokio::test]
async fn without_git_the_directory_itself_is_taken() {
    let world = World::new();
    let directory = world.path("repo");
    write(&directory.join("a"), "a");
    write(&directory.join("b.log"), "b");
    write(&directory.join(".gitignore"), "*.log");
    let (_, files) = world.snapshot(&directory, false).await;
    assert_eq!(names(&files), [".gitignore", "a"]);
}
