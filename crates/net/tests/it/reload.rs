//! Files that change under a client that lives on: what counts, from when, and what becomes of connections.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use courser_net::{Ambience, Client, SystemRoots, TrustSettings, watch_trust_files};
use courser_testkit::World;
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply};

use crate::{client, get, no_trust, settings, status, text};

const NAMES: &[&str] = &["127.0.0.1"];
/// A change of trust counts within a second; a machine that is busy with other tests gets another one.
const PROMISED: Duration = Duration::from_secs(2);
/// For whatever else is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two authorities with a server each, a file of trusted certificates, and a client that follows it.
struct Rotation {
    world: World,
    file: PathBuf,
    old: Side,
    new: Side,
    client: Client,
}

struct Side {
    root: Issued,
    server: FakeServer,
}

impl Side {
    fn new(name: &str) -> Self {
        let root = Authority::root(name).issue();
        let server = FakeServer::https(&root.server(NAMES).issue(), |_| Reply::status(204));
        Self { root, server }
    }

    fn pem(&self) -> String {
        self.root.certificate_pem()
    }
}

impl Rotation {
    /// The file holds the old root.
    fn new() -> Self {
        let world = World::new();
        let (old, new) = (Side::new("Old root"), Side::new("New root"));
        let file = world.write("ca.pem", old.pem());
        let client = client(TrustSettings {
            ca_file: Some(file.clone()),
            ..no_trust()
        });
        Self {
            world,
            file,
            old,
            new,
            client,
        }
    }

    async fn trusts(&self, side: &Side) -> bool {
        self.client.send(get(&side.server.url("/"))).await.is_ok()
    }

    /// Waits until exactly these are trusted, and returns how long it took.
    async fn becomes(&self, old: bool, new: bool) -> Duration {
        let start = Instant::now();
        while (self.trusts(&self.old).await, self.trusts(&self.new).await) != (old, new) {
            assert!(start.elapsed() < PATIENCE, "still not old {old}, new {new}");
        }
        start.elapsed()
    }
}

/// Held for writing by tests that no watch must disturb: a watch looks at the files of all clients of its process, and
/// what is said once is said on its thread then.
pub(crate) static WATCHING: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// Runs a test with the watch of a daemon beside it.
async fn watched<T>(test: impl Future<Output = T>) -> T {
    let _watching = WATCHING.read().await;
    tokio::select! {
        done = test => done,
        () = watch_trust_files() => unreachable!("it ends with its future"),
    }
}

/// Waits for something that no call of ours brings about.
async fn soon(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}

fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[tokio::test]
async fn every_way_to_put_a_new_root_in_place_counts_for_the_next_call() {
    type Way = (&'static str, fn(&Path, &str));
    let ways: [Way; 4] = [
        ("written in place", |path, text| {
            std::fs::write(path, text).unwrap();
        }),
        ("renamed into place", replace),
        ("copied with an old date", |path, text| {
            std::fs::write(path, text).unwrap();
            let file = std::fs::File::options().write(true).open(path).unwrap();
            let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            file.set_modified(long_ago).unwrap();
        }),
        ("removed and written anew", |path, text| {
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, text).unwrap();
        }),
    ];
    for (way, put) in ways {
        let rotation = Rotation::new();
        assert!(rotation.trusts(&rotation.old).await, "{way}");
        put(&rotation.file, &rotation.new.pem());
        assert!(rotation.trusts(&rotation.new).await, "{way}");
        assert!(
            !rotation.trusts(&rotation.old).await,
            "{way}: still trusted"
        );
    }
}

#[tokio::test]
async fn a_config_map_that_turns_its_link_counts_for_the_next_call() {
    let rotation = Rotation::new();
    let mount = |name: &str| rotation.world.path(&format!("mount/{name}"));
    rotation
        .world
        .write("mount/..v1/ca.crt", rotation.old.pem());
    rotation
        .world
        .write("mount/..v2/ca.crt", rotation.new.pem());
    symlink("..v1", mount("..data")).unwrap();
    symlink("..data/ca.crt", mount("ca.crt")).unwrap();
    let rotation = Rotation {
        client: client(TrustSettings {
            ca_file: Some(mount("ca.crt")),
            ..no_trust()
        }),
        ..rotation
    };
    assert!(rotation.trusts(&rotation.old).await);
    let mount = |name: &str| rotation.world.path(&format!("mount/{name}"));
    symlink("..v2", mount("..data_tmp")).unwrap();
    std::fs::rename(mount("..data_tmp"), mount("..data")).unwrap();
    std::fs::remove_dir_all(mount("..v1")).unwrap();
    assert!(rotation.trusts(&rotation.new).await);
    assert!(!rotation.trusts(&rotation.old).await);
}

#[tokio::test]
async fn a_half_written_file_takes_nothing_away_and_counts_when_it_is_complete() {
    // Each step is looked at once, however slow the machine is.
    let _alone = WATCHING.write().await;
    let rotation = Rotation::new();
    let both = rotation.new.pem() + &rotation.old.pem();
    std::fs::write(&rotation.file, &both).unwrap();
    rotation.becomes(true, true).await;
    // As a slow copy writes it: in the first block, in the line between the two, in the second.
    let first = rotation.new.pem().len();
    for end in [0, 9, 200, first - 4, first + 7, first + 30, first + 200] {
        std::fs::write(&rotation.file, &both[..end]).unwrap();
        assert!(rotation.trusts(&rotation.old).await, "cut off at {end}");
    }
    let complete = rotation.old.pem();
    std::fs::write(&rotation.file, complete).unwrap();
    assert!(!rotation.trusts(&rotation.new).await);
    assert!(rotation.trusts(&rotation.old).await);
}

#[tokio::test]
async fn a_removed_file_is_not_trusted_after_a_second_and_is_again_when_it_is_back() {
    let rotation = Rotation::new();
    watched(async {
        assert!(rotation.trusts(&rotation.old).await);
        std::fs::remove_file(&rotation.file).unwrap();
        let took = rotation.becomes(false, false).await;
        assert!(took < PROMISED, "it took {took:?}");
        std::fs::write(&rotation.file, rotation.old.pem()).unwrap();
        assert!(rotation.trusts(&rotation.old).await);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_leaves_the_last_good_content_until_it_is_mended() {
    let rotation = Rotation::new();
    watched(async {
        assert!(rotation.trusts(&rotation.old).await);
        let broken: [fn(&Path); 3] = [
            |path| std::fs::create_dir(path).unwrap(),
            // Stands for missing permissions too, which root does not miss.
            |path| symlink(path, path).unwrap(),
            |path| std::fs::write(path, "not a certificate").unwrap(),
        ];
        for make in broken {
            std::fs::remove_file(&rotation.file).unwrap();
            make(&rotation.file);
            let judged = Instant::now() + Duration::from_millis(900);
            while Instant::now() < judged {
                assert!(rotation.trusts(&rotation.old).await);
            }
            if rotation.file.is_dir() {
                std::fs::remove_dir(&rotation.file).unwrap();
            } else {
                std::fs::remove_file(&rotation.file).unwrap();
            }
            std::fs::write(&rotation.file, rotation.new.pem()).unwrap();
            assert!(
                rotation.trusts(&rotation.new).await,
                "it recovers by itself"
            );
            std::fs::write(&rotation.file, rotation.old.pem()).unwrap();
            assert!(rotation.trusts(&rotation.old).await);
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_on_removed_trust_is_closed_within_a_second_without_a_call() {
    let rotation = Rotation::new();
    watched(async {
        assert!(rotation.trusts(&rotation.old).await);
        assert_eq!(
            rotation.old.server.open_connections(),
            1,
            "kept for the next"
        );
        replace(&rotation.file, &rotation.new.pem());
        let server = &rotation.old.server;
        let took = soon("the connection is closed", || {
            server.open_connections() == 0
        })
        .await;
        assert!(took < PROMISED, "it took {took:?}");
    })
    .await;
}

#[tokio::test]
async fn a_request_under_way_is_finished_and_its_connection_is_not_used_again() {
    let world = World::new();
    let root = Authority::root("Old root").issue();
    let release = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&release);
    let server = FakeServer::https(&root.server(NAMES).issue(), move |request| {
        if request.target == "/slow" {
            gate.wait();
        }
        Reply::text(200, "done")
    });
    let file = world.write("ca.pem", root.certificate_pem());
    let client = client(TrustSettings {
        ca_file: Some(file.clone()),
        ..no_trust()
    });
    watched(async {
        // One connection idle, one in use.
        let slow = client.send(get(&server.url("/slow")));
        let meanwhile = async {
            soon("the slow one is under way", || server.requests().len() == 1).await;
            let quick = client.send(get(&server.url("/"))).await.unwrap();
            assert_eq!(text(quick).await, "done");
            assert_eq!(server.open_connections(), 2);
            replace(
                &file,
                &Authority::root("New root").issue().certificate_pem(),
            );
            soon("the idle one is closed", || server.open_connections() == 1).await;
            assert!(
                client.send(get(&server.url("/"))).await.is_err(),
                "a new call is refused"
            );
            tokio::task::spawn_blocking(move || release.wait())
                .await
                .unwrap();
        };
        let (answer, ()) = tokio::join!(slow, meanwhile);
        assert_eq!(text(answer.unwrap()).await, "done");
        soon("the other one is closed", || server.open_connections() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_only_touched_keeps_connections() {
    let rotation = Rotation::new();
    assert!(rotation.trusts(&rotation.old).await);
    for _ in 0..3 {
        std::fs::write(&rotation.file, rotation.old.pem()).unwrap();
        assert!(rotation.trusts(&rotation.old).await);
    }
    assert_eq!(rotation.old.server.open_connections(), 1);
}

static ASKED_FOR_THE_TIME: AtomicUsize = AtomicUsize::new(0);

#[tokio::test]
async fn nothing_is_verified_on_a_kept_connection() {
    let root = Authority::root("Root").issue();
    let server = FakeServer::https(&root.server(NAMES).issue(), |_| Reply::status(204));
    let ambience = Ambience {
        // The verifier asks once for each chain.
        now: || {
            ASKED_FOR_THE_TIME.fetch_add(1, Ordering::SeqCst);
            jiff::Timestamp::now()
        },
        ..Ambience::default()
    };
    let client = Client::with_ambience(settings(crate::trusting(root.certificate_pem())), ambience);
    for _ in 0..10 {
        assert_eq!(status(&client, &server.url("/")).await, 204);
    }
    assert_eq!(ASKED_FOR_THE_TIME.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_root_written_into_a_file_of_the_systems_directory_counts_after_a_second() {
    let rotation = Rotation::new();
    let directory = rotation.world.path("certs");
    let file = rotation.world.write("certs/site.pem", rotation.old.pem());
    let rotation = Rotation {
        client: client(TrustSettings {
            system: SystemRoots::Platform {
                file: Some(rotation.world.path("nowhere")),
                directories: Some(vec![directory]),
            },
            ..no_trust()
        }),
        ..rotation
    };
    watched(async {
        assert!(rotation.trusts(&rotation.old).await);
        // The directory's own date stays as it is.
        std::fs::write(file, rotation.new.pem()).unwrap();
        rotation.becomes(false, true).await;
    })
    .await;
}
