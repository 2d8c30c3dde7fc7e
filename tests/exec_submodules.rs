//! `courser exec` with submodules and Git LFS: everything comes from this machine.

use crate::world::{World, run};

const RECURSIVE: &str = "
job:
  variables: {GIT_SUBMODULE_STRATEGY: recursive}
  script:
    - cat p.txt libs/one/one.txt libs/one/two/two.txt
    - git -C libs/one log --format=%s -1
    - git -C libs/one config remote.origin.url
";

/// `work` with the submodule `libs/one`, which has `two`. Their URLs lead nowhere.
fn project(pipeline: &str) -> World {
    let world = World::new();
    world.repository("srv/two.git", &[("two.txt", "content of two\n")]);
    world.repository("srv/one.git", &[("one.txt", "content of one\n")]);
    let add = |directory: &str, url: &str, path: &str| {
        let allow = "protocol.file.allow=always";
        world.git(
            directory,
            &["-c", allow, "submodule", "--quiet", "add", url, path],
        );
        world.git(directory, &["commit", "--quiet", "--message", "submodule"]);
    };
    add("srv/one.git", "../two.git", "two");
    world.repository(
        "work",
        &[(".gitlab-ci.yml", pipeline), ("p.txt", "content of p\n")],
    );
    world.git(
        "work",
        &["remote", "add", "origin", "https://forge.invalid/g/p.git"],
    );
    add(
        "work",
        &world.path("srv/one.git").display().to_string(),
        "libs/one",
    );
    let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
    world.git(
        "work",
        &[&["-c", "protocol.file.allow=always"], &update[..]].concat(),
    );
    std::fs::rename(world.path("srv"), world.path("gone")).expect("moves");
    world
}

fn set_url(world: &World, url: &str) {
    world.git(
        "work",
        &[
            "config",
            "--file",
            ".gitmodules",
            "submodule.libs/one.url",
            url,
        ],
    );
}

#[test]
fn submodules_come_from_where_they_are_checked_out() {
    let world = project(RECURSIVE);
    for url in [
        "https://forge.invalid/g/one.git",
        "https://forge.invalid/g/one",
        "git@forge.invalid:g/one.git",
        "../one.git",
    ] {
        set_url(&world, url);
        let finished = run(&mut world.courser(["exec"]));
        assert_eq!(finished.code(), 0, "{url}: {}", finished.all());
        for line in [
            "content of p",
            "content of one",
            "content of two",
            "submodule",
        ] {
            assert!(finished.stdout.contains(line), "{line}: {}", finished.all());
        }
        assert!(!finished.stderr.contains("warning"), "{}", finished.all());
    }
}

#[test]
fn the_commit_is_the_snapshots_and_what_is_not_in_it_is_named() {
    let world = project(RECURSIVE);
    set_url(&world, "https://forge.invalid/g/one.git");
    world.write("work/libs/one/one.txt", "a commit of today\n");
    world.git(
        "work/libs/one",
        &["commit", "--quiet", "--all", "--message", "today"],
    );
    world.write("work/libs/one/one.txt", "not committed\n");
    let finished = run(&mut world.courser(["exec"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(
        finished.stdout.contains("a commit of today"),
        "{}",
        finished.all()
    );
    assert!(
        !finished.stdout.contains("not committed"),
        "{}",
        finished.all()
    );
    let head = world.git("work/libs/one", &["rev-parse", "--short=8", "HEAD"]);
    let note = format!(
        "submodule libs/one has changes that are not committed: jobs get its commit {}",
        head.trim()
    );
    assert!(finished.stderr.contains(&note), "{}", finished.all());
}

#[test]
fn a_submodule_that_is_not_checked_out_has_a_remedy() {
    let world = project(RECURSIVE);
    set_url(&world, "../one.git");
    world.git(
        "work",
        &["submodule", "--quiet", "deinit", "--force", "libs/one"],
    );
    std::fs::remove_dir_all(world.path("work/.git/modules")).expect("removed");
    let finished = run(&mut world.courser(["exec"]));
    assert_eq!(finished.code(), 1, "{}", finished.all());
    for part in [
        "submodule libs/one is not checked out here",
        "there is no such project here. A submodule with a relative URL is served where it is checked out: git \
         submodule update --init --recursive",
    ] {
        assert!(finished.all().contains(part), "{part}: {}", finished.all());
    }
}

const LFS: &str = "
job:
  script: [cat big.bin]
";

/// `work` with `big.bin` in LFS; its id.
fn with_lfs() -> (World, String) {
    let world = World::new();
    world.repository("work", &[(".gitlab-ci.yml", LFS)]);
    world.git("work", &["lfs", "install", "--skip-repo"]);
    world.write(
        "work/.gitattributes",
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    );
    world.write("work/big.bin", "content in LFS\n");
    world.git("work", &["add", "--all"]);
    world.git("work", &["commit", "--quiet", "--message", "lfs"]);
    let pointer = world.git("work", &["show", "HEAD:big.bin"]);
    let oid = pointer
        .lines()
        .find_map(|line| line.strip_prefix("oid sha256:"))
        .expect("a pointer")
        .to_owned();
    (world, oid)
}

#[test]
fn lfs_objects_come_from_the_repository() {
    let (world, _) = with_lfs();
    let finished = run(&mut world.courser(["exec"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(
        finished.stdout.contains("content in LFS"),
        "{}",
        finished.all()
    );
    // What is not committed yet is in LFS all the same.
    world.write("work/big.bin", "content of today\n");
    let finished = run(&mut world.courser(["exec"]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    assert!(
        finished.stdout.contains("content of today"),
        "{}",
        finished.all()
    );
}

#[test]
fn an_lfs_object_that_is_missing_is_named_with_its_file() {
    let (world, oid) = with_lfs();
    let object = format!("work/.git/lfs/objects/{}/{}/{oid}", &oid[..2], &oid[2..4]);
    std::fs::remove_file(world.path(&object)).expect("an object");
    let commit = world.git("work", &["rev-parse", "HEAD"]);
    let finished = run(&mut world.courser(["exec", "--ref", commit.trim()]));
    assert_eq!(finished.code(), 1, "{}", finished.all());
    let part = "the object of big.bin is not in your repository: run \"git lfs fetch\" there";
    assert!(finished.all().contains(part), "{}", finished.all());
}
