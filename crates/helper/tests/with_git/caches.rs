//! Local caches.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use courser_helper::HelperRequest;
use courser_job::helper_request::{CacheEntry, CacheRequest};

use crate::world::{World, plain};

fn caches(world: &World, key: &str, fallback_keys: &[&str]) -> CacheRequest {
    CacheRequest {
        project_dir: world.text("project"),
        cache_root: world.text("cache/group/project"),
        hash_keys: false,
        clean_up_failed: false,
        entries: vec![CacheEntry {
            key: key.to_owned(),
            fallback_keys: fallback_keys.iter().map(|key| (*key).to_owned()).collect(),
            paths: vec!["vendor/$DIR".to_owned()],
            untracked: false,
        }],
    }
}

fn save(world: &World, key: &str) -> String {
    let request = HelperRequest::ArchiveCache(caches(world, key, &[]));
    let (result, log) = world.run_in(&request, &world.environment(&[("DIR", "lib")]));
    result.expect("saving never fails a job");
    plain(&(log.out + &log.err))
}

fn restore(world: &World, key: &str, fallback_keys: &[&str]) -> String {
    let log = world.done(&HelperRequest::RestoreCache(caches(
        world,
        key,
        fallback_keys,
    )));
    plain(&(log.out + &log.err))
}

#[test]
fn what_was_saved_comes_back() {
    let world = World::new();
    fs::create_dir_all(world.path("project/vendor/lib")).expect("directory");
    fs::write(world.path("project/vendor/lib/a"), "cached").expect("file");
    let log = save(&world, "main/linux");
    assert!(
        log.starts_with("Creating cache main/linux...\nCreated cache\n"),
        "{log}"
    );
    assert!(
        log.contains("vendor/lib: found 2 matching artifact files and directories"),
        "{log}"
    );
    assert!(
        log.contains("No URL provided, cache will not be uploaded"),
        "{log}"
    );

    let directory = world.path("cache/group/project/main/linux");
    let metadata = directory.join("metadata.json");
    assert_eq!(
        fs::read_to_string(&metadata).expect("file"),
        r#"{"cachekey":"main/linux"}"#
    );
    let mode = |path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(metadata), 0o640);
    assert_eq!(mode(directory), 0o700);

    fs::remove_dir_all(world.path("project/vendor")).expect("removes");
    let log = restore(&world, "main/linux", &[]);
    assert!(log.contains("Checking cache for main/linux...\n"), "{log}");
    assert!(log.contains("Successfully extracted cache\n"), "{log}");
    assert_eq!(
        fs::read(world.path("project/vendor/lib/a")).expect("file"),
        b"cached"
    );
}

#[test]
fn an_archive_that_is_up_to_date_is_not_made_again() {
    let world = World::new();
    fs::create_dir_all(world.path("project/vendor/lib")).expect("directory");
    fs::write(world.path("project/vendor/lib/a"), "one").expect("file");
    save(&world, "k");
    let archive = world.path("cache/group/project/k/cache.zip");
    let first = fs::read(&archive).expect("file");
    let log = save(&world, "k");
    assert!(log.contains("Archive is up to date!"), "{log}");

    let newer = fs::File::create(world.path("project/vendor/lib/a")).expect("file");
    newer
        .set_modified(
            fs::metadata(&archive)
                .and_then(|file| file.modified())
                .expect("time")
                + std::time::Duration::from_secs(1),
        )
        .expect("time");
    let log = save(&world, "k");
    assert!(!log.contains("Archive is up to date!"), "{log}");
    assert_ne!(fs::read(&archive).expect("file"), first);
}

#[test]
fn fallback_keys_are_tried_in_order_and_a_miss_is_no_error() {
    let world = World::new();
    fs::create_dir_all(world.path("project/vendor/lib")).expect("directory");
    fs::write(world.path("project/vendor/lib/a"), "x").expect("file");
    save(&world, "third");
    let log = restore(&world, "first", &["second", "third", "fourth"]);
    let checked: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("Checking"))
        .collect();
    assert_eq!(
        checked,
        [
            "Checking cache for first...",
            "Checking cache for second...",
            "Checking cache for third..."
        ]
    );
    assert_eq!(log.matches("WARNING: Cache file does not exist").count(), 2);
    assert!(restore(&world, "none", &[]).contains("Failed to extract cache"));
}

#[test]
fn a_damaged_cache_is_a_miss_and_is_replaced_whole() {
    let world = World::new();
    fs::create_dir_all(world.path("project/vendor/lib")).expect("directory");
    fs::write(world.path("project/vendor/lib/a"), "x").expect("file");
    let directory = world.path("cache/group/project/k");
    fs::create_dir_all(&directory).expect("directory");
    fs::write(directory.join("cache.zip"), "no zip").expect("file");
    assert!(restore(&world, "k", &[]).contains("Failed to extract cache"));
    // Older than the files: made anew.
    fs::File::open(directory.join("cache.zip"))
        .and_then(|file| file.set_modified(std::time::UNIX_EPOCH))
        .expect("time");
    save(&world, "k");
    assert!(restore(&world, "k", &[]).contains("Successfully extracted cache"));
    let names: Vec<_> = fs::read_dir(&directory)
        .expect("readable")
        .flatten()
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn unfinished_archives_of_killed_jobs_go_away() {
    let world = World::new();
    fs::create_dir_all(world.path("project/vendor/lib")).expect("directory");
    fs::write(world.path("project/vendor/lib/a"), "x").expect("file");
    let directory = world.path("cache/group/project/k");
    fs::create_dir_all(&directory).expect("directory");
    for (name, age) in [("archive_old", 3), ("archive_recent", 0)] {
        let file = fs::File::create(directory.join(name)).expect("file");
        let now = file
            .metadata()
            .and_then(|file| file.modified())
            .expect("time");
        file.set_modified(now - std::time::Duration::from_secs(age * 24 * 3600))
            .expect("time");
    }
    save(&world, "k");
    assert!(!directory.join("archive_old").exists());
    assert!(directory.join("archive_recent").exists());
}

#[test]
fn keys_do_not_lead_outside() {
    let world = World::new();
    fs::create_dir_all(world.path("project/vendor/lib")).expect("directory");
    let log = save(&world, "../../../evil");
    assert!(log.contains("Failed to create cache"), "{log}");
    assert!(!world.path("evil").exists());
    assert!(restore(&world, "/etc", &[]).contains("Failed to extract cache"));
}

#[test]
fn nothing_to_cache_is_said() {
    let world = World::new();
    fs::create_dir_all(world.path("project")).expect("directory");
    let log = save(&world, "k");
    assert!(
        log.contains("WARNING: vendor/lib: no matching files."),
        "{log}"
    );
    assert!(log.contains("WARNING: No files to cache."), "{log}");
    assert!(!world.path("cache").exists());
}

#[test]
fn a_cache_made_with_plain_keys_is_taken_over_by_hashed_ones() {
    let world = World::new();
    fs::create_dir_all(world.path("project/vendor/lib")).expect("directory");
    fs::write(world.path("project/vendor/lib/a"), "x").expect("file");
    save(&world, "k");
    let mut hashed = caches(&world, "k", &[]);
    hashed.hash_keys = true;
    let request = HelperRequest::ArchiveCache(hashed.clone());
    let (_, log) = world.run_in(&request, &world.environment(&[("DIR", "lib")]));
    assert!(
        plain(&log.err).contains("Archive is up to date!"),
        "{}",
        log.err
    );
    assert!(!world.path("cache/group/project/k/cache.zip").exists());
    let log = world.done(&HelperRequest::RestoreCache(hashed));
    assert!(
        plain(&log.out).contains("Successfully extracted cache"),
        "{}",
        log.out
    );
}

#[test]
fn what_a_failed_restore_left_is_removed_where_that_is_wanted() {
    let world = World::new();
    world.write("project/vendor/lib/half", "extracted");
    world.write("project/vendor/kept", "not of the cache");
    let outside = world.write("outside/kept", "x");
    std::os::unix::fs::symlink(world.path("outside"), world.path("project/vendor/lib/link"))
        .expect("link");
    world.write("cache/group/project/k/cache.zip", "no archive");
    let mut request = caches(&world, "k", &[]);
    request.clean_up_failed = true;
    let request = HelperRequest::RestoreCache(request);
    let (result, log) = world.run_in(&request, &world.environment(&[("DIR", "lib")]));
    result.expect("a miss never fails a job");
    assert!(plain(&log.out).ends_with("Failed to extract cache\nRemoving vendor/lib\n"));
    assert!(!world.path("project/vendor/lib").exists());
    assert!(world.path("project/vendor/kept").exists());
    assert!(fs::exists(outside).expect("readable"));
}
