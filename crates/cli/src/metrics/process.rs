//! `process_…`: what the system says of this process, under the names of Prometheus' own clients.

use courser_runner::metrics::{Exposition, Kind};

use crate::platform;

/// Writes those families of which the system tells; elsewhere than on Linux, none.
pub(super) fn write(page: &mut Exposition) {
    let Some(facts) = Facts::read() else { return };
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            Kind::Counter,
            "Total user and system CPU time spent in seconds.",
            facts.cpu_seconds,
        ),
        (
            "process_start_time_seconds",
            Kind::Gauge,
            "Start time of the process since unix epoch in seconds.",
            facts.start_seconds,
        ),
        (
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory size in bytes.",
            facts.resident_bytes,
        ),
        (
            "process_virtual_memory_bytes",
            Kind::Gauge,
            "Virtual memory size in bytes.",
            facts.virtual_bytes,
        ),
        (
            "process_open_fds",
            Kind::Gauge,
            "Number of open file descriptors.",
            facts.open_files,
        ),
    ] {
        page.single(name, kind, help, value);
    }
}

struct Facts {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_files: f64,
}

impl Facts {
    fn read() -> Option<Self> {
        let text = |path: &str| std::fs::read_to_string(path).ok();
        let stat = text("/proc/self/stat")?;
        let system = text("/proc/stat")?;
        let boot = system
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?;
        let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
        let (ticks, page) = platform::units_of_proc();
        Self::parse(
            &stat,
            boot.trim().parse().ok()?,
            ticks as f64,
            page as f64,
            open as f64,
        )
    }

    /// `stat` of proc(5). The name in it may hold anything, so fields are counted from its closing bracket.
    fn parse(stat: &str, boot: f64, ticks: f64, page: f64, open_files: f64) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // The first after the name is number 3 of the manual.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks,
            start_seconds: boot + field(22)? / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
            open_files,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat =
            "42 (a) b (c) S 1 42 42 0 -1 4194560 2000 0 0 0 150 50 0 0 20 0 9 0 1000 4096000 300 1";
        let facts = Facts::parse(stat, 1_000.0, 100.0, 4096.0, 7.0).unwrap();
        assert_eq!(facts.cpu_seconds, 2.0);
        assert_eq!(facts.start_seconds, 1_010.0);
        assert_eq!(facts.virtual_bytes, 4_096_000.0);
        assert_eq!(facts.resident_bytes, 300.0 * 4096.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_told_of() {
        let mut page = Exposition::default();
        write(&mut page);
        assert!(page.finish().contains("process_resident_memory_bytes "));
    }
}
