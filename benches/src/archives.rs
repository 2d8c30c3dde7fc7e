//! Artifacts and caches of 10,000 files, 300 MB, in memory (`/dev/shm`): the commands that scripts call.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::server::{FakeServer, Reply};

use crate::arguments::Arguments;
use crate::cost::{self, Cost};
use crate::figure::{Figure, Goal, median};
use crate::world::World;

const FILES: usize = 10_000;

/// Mean size of a file; the smallest is half, the largest one and a half of it.
const MEAN: usize = 30_000;

/// Of 1,000 files so many hold noise, as packed libraries and images do. The rest is text that zlib's level
/// 5 packs to 17 %. This share gives the archive the size that was measured with gitlab-runner.
const NOISY: usize = 630;

/// Lines that a text is made of again and again, and words of each.
const LINES: usize = 150;
const WORDS: usize = 6;

const RUNS: usize = 5;

/// What gitlab-runner took when it was measured (issue 5), of which we may take so much.
const SHARE: f64 = 0.6;

/// Peak of our process, and the archive's size: gitlab-runner's and two per cent.
const PEAK_MEGABYTES: f64 = 48.0;
const ARCHIVE_MEGABYTES: f64 = 210.4 * 1.02;

/// One command under measurement, with gitlab-runner's seconds of time and CPU.
struct Work {
    name: &'static str,
    time: f64,
    cpu: f64,
    costs: Vec<Cost>,
}

impl Work {
    fn new(name: &'static str, time: f64, cpu: f64) -> Self {
        let costs = Vec::new();
        Self {
            name,
            time,
            cpu,
            costs,
        }
    }

    fn rows(&self) -> [Figure; 3] {
        let middle = |field: fn(&Cost) -> f64| median(self.costs.iter().map(field).collect());
        let Self { name, .. } = self;
        let peak = self.costs.iter().map(|cost| cost.largest).max();
        let limit = |seconds: f64| Goal::AtMost((seconds * SHARE * 1000.0).round());
        [
            Figure::milliseconds(format!("{name}: time"), middle(|cost| cost.wall))
                .goal(limit(self.time)),
            Figure::milliseconds(format!("{name}: CPU"), middle(|cost| cost.cpu))
                .goal(limit(self.cpu)),
            Figure::megabytes(format!("{name}: peak"), peak.unwrap_or_default())
                .goal(Goal::AtMost(PEAK_MEGABYTES)),
        ]
    }
}

pub(crate) fn figures(arguments: &Arguments) -> Result<Vec<Figure>> {
    let world = World::in_memory()?;
    fill(&world.path("work/files")).context("10,000 files")?;
    let root = Authority::root("Bench Root").issue();
    let leaf = root.server(&["127.0.0.1"]).issue();
    let ca = world.write("home/ca.pem", root.certificate_pem())?;

    let mut upload = Work::new("artifacts, upload", 1.86, 2.7);
    let mut download = Work::new("artifacts, download and extract", 1.37, 2.2);
    let mut archive = Work::new("cache, archive", 1.25, 2.3);
    let mut extract = Work::new("cache, extract", 0.76, 1.4);
    let cache = world.path("cache/cache.zip");
    let program = |name: &str| {
        let mut command = world.command(&arguments.courser);
        command.arg(name).env("TMPDIR", world.path("home"));
        command
    };
    for _ in 0..RUNS {
        let server =
            FakeServer::https_unrecorded(&leaf, |_| Reply::json(201, &serde_json::json!({})));
        let mut command = program("artifacts-uploader");
        command.args(job(&server, &ca));
        command.args(["--path", "files", "--artifact-format", "zip"]);
        upload.costs.push(cost::of(&world, &command)?);
        drop(server);

        std::fs::remove_dir_all(world.path("cache")).ok();
        let mut command = program("cache-archiver");
        command.arg("--file").arg(&cache).args(["--path", "files"]);
        archive.costs.push(cost::of(&world, &command)?);

        let target = || -> Result<_> {
            let path = world.path("target");
            std::fs::remove_dir_all(&path).ok();
            std::fs::create_dir(&path).context("a directory to extract into")?;
            Ok(path)
        };
        let mut command = program("cache-extractor");
        command.arg("--file").arg(&cache).current_dir(target()?);
        extract.costs.push(cost::of(&world, &command)?);

        let server = storage(&leaf, &cache)?;
        let mut command = program("artifacts-downloader");
        command.args(job(&server, &ca)).current_dir(target()?);
        download.costs.push(cost::of(&world, &command)?);
    }
    let size = std::fs::metadata(&cache).context("the archive")?.len();
    let works = [upload, download, archive, extract];
    let mut rows: Vec<Figure> = works.iter().flat_map(Work::rows).collect();
    let goal = Goal::AtMost((ARCHIVE_MEGABYTES * 10.0).round() / 10.0);
    rows.push(Figure::megabytes("archive of 10,000 files, 300 MB", size).goal(goal));
    Ok(rows)
}

/// Which job of which server.
fn job(server: &FakeServer, ca: &Path) -> Vec<String> {
    let url = server.url("");
    let ca = ca.display().to_string();
    let words = ["--url", &url, "--tls-ca-file", &ca, "--id", "1", "--token"];
    let mut words: Vec<String> = words.map(str::to_owned).into();
    words.push("glcbt-1_bench".to_owned());
    words
}

/// A server with an artifact.
fn storage(leaf: &Issued, archive: &Path) -> Result<FakeServer> {
    let body = std::fs::read(archive).context("the archive")?;
    Ok(FakeServer::https_unrecorded(leaf, move |_| {
        Reply::with("application/zip", 200, body.clone())
    }))
}

/// The same files each time.
fn fill(directory: &Path) -> Result<()> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let words: Vec<String> = (0..4000).map(|_| random.word()).collect();
    let mut content = Vec::new();
    for number in 0..FILES {
        let folder = directory.join(format!("folder-{:03}/sub-{}", number / 100, number % 4));
        std::fs::create_dir_all(&folder)?;
        let size = MEAN / 2 + random.below(MEAN);
        content.clear();
        if number * 7919 % 1000 < NOISY {
            while content.len() < size {
                content.extend_from_slice(&random.next().to_le_bytes());
            }
        } else {
            let lines: Vec<String> = (0..LINES).map(|_| random.line(&words)).collect();
            while content.len() < size {
                writeln!(content, "{}", lines[random.below(LINES)])?;
            }
        }
        content.truncate(size);
        std::fs::write(folder.join(format!("file-{number:05}")), &content)?;
    }
    Ok(())
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Some words are common, as in any text.
    fn line(&mut self, words: &[String]) -> String {
        let count = words.len();
        let line: Vec<&str> = (0..WORDS)
            .map(|_| words[self.below(count) * self.below(count) / count].as_str())
            .collect();
        line.join(" ")
    }

    fn word(&mut self) -> String {
        let length = 3 + self.below(8);
        (0..length)
            .map(|_| char::from(b'a' + (self.below(26) as u8)))
            .collect()
    }
}
