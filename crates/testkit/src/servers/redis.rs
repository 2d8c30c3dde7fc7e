//! A Redis, in which OpenBao's database engine makes users that live as long as their leases.

use std::net::Ipv4Addr;
use std::process::Command;

use super::{Daemon, OpenBao, program, write};

const PASSWORD: &str = "courser-test-redis";

/// A running server that keeps nothing.
pub struct Redis {
    daemon: Daemon,
}

impl Redis {
    /// Starts one on an address of loopback.
    pub fn start(host: Ipv4Addr) -> Self {
        let daemon = Daemon::start(host.into(), |directory, port| {
            let config = format!("bind {host}\nport {port}\nsave \"\"\nrequirepass {PASSWORD}\n");
            let mut command = Command::new(program("redis-server"));
            command.arg(write(directory, "redis.conf", &config));
            command
        });
        Self { daemon }
    }

    /// Has OpenBao make users here at each read of `database/creds/job`, which live for an hour.
    pub fn serve_users(&self, bao: &OpenBao) {
        let address = self.daemon.address;
        bao.bao(&["secrets", "enable", "database"], "");
        bao.bao(
            &[
                "write",
                "database/config/redis",
                "plugin_name=redis-database-plugin",
                &format!("host={}", address.ip()),
                &format!("port={}", address.port()),
                "username=default",
                &format!("password={PASSWORD}"),
                "allowed_roles=*",
            ],
            "",
        );
        bao.bao(
            &[
                "write",
                "database/roles/job",
                "db_name=redis",
                "creation_statements=[\"+@read\", \"~*\"]",
                "default_ttl=1h",
            ],
            "",
        );
    }
}
