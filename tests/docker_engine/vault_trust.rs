//! Where a runner learns of the private CA of a Vault: the cures that GitLab documents, each tried on a machine or in an
//! image as an administrator has it (S20 to S23 and S27 of `runner-tls.md` 18).

use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use courser_testkit::id_token::Issuer;
use courser_testkit::pki::{Authority, Issued};
use courser_testkit::servers::OpenBao;
use serde_json::{Value, json};

use super::scene::{DEBIAN, SYSTEMD, Scene, says, success};
use crate::wire::gitlab::{Record, add};
use crate::world::{documented, eventually};

/// What an administrator has from whoever runs the Vault.
const CA: &str = "vault-ca.crt";
const NOT_TRUSTED: &str = "ERROR: Job failed (system failure): resolving secrets: initializing Vault service: \
                           preparing authenticated client: authenticating Vault client: writing to Vault: Put ";

/// The unit that `gitlab-runner install` writes.
const UNIT: &str = "\
[Unit]
Description=GitLab Runner
ConditionFileIsExecutable=/usr/bin/gitlab-runner
After=network.target

[Service]
StartLimitInterval=5
StartLimitBurst=10
ExecStart=/usr/bin/gitlab-runner \"run\" \"--config\" \"/etc/gitlab-runner/config.toml\" \
\"--working-directory\" \"/home/gitlab-runner\" \"--service\" \"gitlab-runner\" \"--user\" \"gitlab-runner\"
Restart=always
RestartSec=120
EnvironmentFile=-/etc/sysconfig/gitlab-runner

[Install]
WantedBy=multi-user.target
";

/// A Vault of a private CA, and a container in which the runner is.
struct Place {
    scene: Scene,
    bao: OpenBao,
    issuer: Issuer,
    vault_root: Issued,
    /// Name of the container.
    name: String,
    jobs: i64,
}

impl Place {
    /// The runner's configuration directory is `etc` of the world: GitLab's certificate is in it, and the Vault's CA nowhere.
    fn new() -> Self {
        let scene = Scene::new();
        let vault_root = Authority::root("Vault Root").issue();
        let gateway = &scene.engine.gateway;
        let leaf = vault_root.server(&[gateway]).issue();
        let address = gateway.parse().expect("an address");
        let bao = OpenBao::start(address, &vault_root, &leaf);
        let issuer = Issuer::new("https://gitlab.example.com");
        bao.enable_jwt("jwt", issuer.url(), &issuer.public_key_pem());
        bao.bao(&["secrets", "enable", "-path=ops", "-version=2", "kv"], "");
        let password = ["kv", "put", "-mount=ops", "db", "password=of-the-vault"];
        bao.bao(&password, "");
        let read = "path \"ops/data/*\" { capabilities = [\"read\"] }";
        bao.policy("deploy", read);
        bao.jwt_role("jwt", "deploy", &json!({}));
        let gitlabs = format!("etc/certs/{gateway}.crt");
        scene.world.write(&gitlabs, scene.root.certificate_pem());
        let config = scene.gitlab.configuration("");
        scene.world.write("etc/config.toml", config);
        scene.world.write(CA, vault_root.certificate_pem());
        let name = format!("courser-vault-trust-{}", scene.project);
        Self {
            scene,
            bao,
            issuer,
            vault_root,
            name,
            jobs: 0,
        }
    }

    /// Starts the container, with our program where people have gitlab-runner.
    fn start(&self, options: &[&str], image_and_command: &[&str]) {
        let program = format!(
            "{}:/usr/bin/gitlab-runner:ro",
            env!("CARGO_BIN_EXE_courser")
        );
        let start = [
            "run", "--detach", "--name", &self.name, "--volume", &program,
        ];
        let all = [&start, options, image_and_command].concat();
        self.scene.client(&all);
    }

    /// Runs a command in it.
    fn inside(&self, command: &[&str]) -> String {
        self.scene
            .client(&[&["exec", &self.name], command].concat())
    }

    /// Puts a file of the world there.
    fn copy(&self, file: &str, to: &str) {
        let from = self.scene.world.path(file);
        let from = from.to_str().expect("a path in UTF-8");
        self.scene
            .client(&["cp", from, &format!("{}:{to}", self.name)]);
    }

    fn volume(&self, file: &str, at: &str) -> String {
        format!("{}:{at}", self.scene.world.path(file).display())
    }

    fn remove(&self) {
        self.scene
            .client(&["rm", "--force", "--volumes", &self.name]);
        self.scene.gitlab.runner_is_gone();
    }

    /// Runs a job that wants a secret of the Vault.
    fn job(&mut self) -> Record {
        self.jobs += 1;
        let script = [
            "test \"$(cat \"$PASSWORD\")\" = of-\"\"the-vault && stat -c 'mode %a of %u' \"$PASSWORD\"",
            "cat /proc/1/environ > /dev/null 2>&1 || echo the first process is closed",
        ];
        let job = self.scene.job(self.jobs, &script);
        let token = self.issuer.token("https://vault.example.com");
        let token =
            json!({"key": "VAULT_ID_TOKEN", "value": token, "masked": true, "public": false});
        let mut job = add(job, "variables", token);
        // S24: as a variable of the job it has no effect.
        let ca = json!({"key": "VAULT_CACERT", "value": self.vault_root.certificate_pem(), "file": true, "public": true});
        job = add(job, "variables", ca);
        job["secrets"] = json!({"PASSWORD": self.secret()});
        self.scene.gitlab.queue(&job);
        self.scene.gitlab.finished(self.jobs)
    }

    fn secret(&self) -> Value {
        json!({"file": true, "vault": {
            "server": {"url": self.bao.url(), "namespace": null,
                "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": "$VAULT_ID_TOKEN", "role": "deploy"}}},
            "engine": {"name": "kv-v2", "path": "ops"}, "path": "db", "field": "password",
        }})
    }

    /// A job fails, and says in the documented words why.
    #[track_caller]
    fn is_not_trusted(&mut self) {
        let job = self.job();
        let text = job.text();
        assert_eq!(job.outcome().1, "runner_system_failure", "{text}");
        let authority = "x509: certificate signed by unknown authority";
        assert!(
            text.contains(NOT_TRUSTED) && text.contains(authority),
            "{text}"
        );
    }

    /// A job has its secret, as a file of that user.
    #[track_caller]
    fn is_trusted(&mut self, user: &str) -> Record {
        let job = self.job();
        let text = job.text();
        assert_eq!(job.outcome(), success(), "{text}");
        assert!(text.contains(&format!("mode 600 of {user}")), "{text}");
        assert_eq!(self.bao.accessors(), [""; 0]);
        job
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.scene
            .tried(&["rm", "--force", "--volumes", &self.name]);
        self.scene.gitlab.runner_is_gone();
    }
}

/// systemd's own hierarchy, where the machine has control groups of version 1.
fn control_groups() -> &'static [&'static str] {
    if Path::new("/sys/fs/cgroup/systemd").exists() {
        &["--volume", "/sys/fs/cgroup/systemd:/sys/fs/cgroup/systemd"]
    } else {
        &[]
    }
}

#[test]
fn s22_s27_a_drop_in_of_systemd_or_the_machines_store_makes_a_service_trust_a_vault() {
    let mut place = Place::new();
    let machine = ["--privileged", "--tmpfs", "/run", "--tmpfs", "/run/lock"];
    let options = [&machine, control_groups()].concat();
    place.start(&options, &[SYSTEMD]);
    let systemctl = |place: &Place, arguments: &[&str]| {
        place.inside(&[&["systemctl"], arguments].concat());
    };
    eventually("systemd runs", || {
        let state = ["exec", &place.name, "systemctl", "is-system-running"];
        matches!(place.scene.tried(&state).trim(), "running" | "degraded")
    });
    // As gitlab-runner's package does: Debian's `.bash_logout` would fail each job.
    let user = [
        "--create-home",
        "--skel",
        "/dev/null",
        "--uid",
        "1000",
        "gitlab-runner",
    ];
    place.inside(&[&["useradd"], &user[..]].concat());
    place.copy("etc", "/etc/gitlab-runner");
    place.scene.world.write("unit", UNIT);
    place.copy("unit", "/etc/systemd/system/gitlab-runner.service");
    systemctl(&place, &["daemon-reload"]);
    systemctl(&place, &["enable", "--now", "gitlab-runner"]);
    place.is_not_trusted();

    // S22: what `systemctl edit gitlab-runner` writes.
    let [drop_in] = &documented("secrets.md", "ini")[..] else {
        panic!("one drop-in");
    };
    place.scene.world.write("service.d/override.conf", drop_in);
    place.copy("service.d", "/etc/systemd/system/gitlab-runner.service.d");
    place.copy(CA, "/etc/gitlab-runner/vault-ca.crt");
    let restart = |place: &Place| {
        systemctl(place, &["daemon-reload"]);
        systemctl(place, &["stop", "gitlab-runner"]);
        place.scene.gitlab.runner_is_gone();
        systemctl(place, &["start", "gitlab-runner"]);
    };
    restart(&place);
    place.is_trusted("1000");

    place.inside(&["rm", "-r", "/etc/systemd/system/gitlab-runner.service.d"]);
    restart(&place);
    place.is_not_trusted();

    // S27: the operating system's store is enough, and the service need not start again.
    place.copy(CA, "/usr/local/share/ca-certificates/vault-ca.crt");
    place.inside(&["update-ca-certificates"]);
    place.is_trusted("1000");
}

#[test]
fn s21_an_image_of_the_runner_whose_store_has_the_ca_trusts_a_vault() {
    let mut place = Place::new();
    let etc = place.volume("etc", "/etc/gitlab-runner");
    let runs = |place: &Place, image: &str| {
        let options = ["--volume", &etc];
        place.start(&options, &[image, "gitlab-runner", "run"]);
    };
    runs(&place, DEBIAN);
    place.is_not_trusted();
    place.remove();

    let [dockerfile] = &documented("secrets.md", "dockerfile")[..] else {
        panic!("one Dockerfile");
    };
    let dockerfile = dockerfile.replace("registry.example.com/gitlab-runner", DEBIAN);
    place.scene.world.write("image/Dockerfile", dockerfile);
    let ca = place.vault_root.certificate_pem();
    place.scene.world.write("image/vault-ca.crt", ca);
    let image = place.scene.built("image");
    runs(&place, &image.name);
    place.is_trusted("0");
    place.remove();
}

#[test]
fn s23_a_secret_of_the_helm_chart_has_the_ca_and_a_variable_names_it() {
    const HOME: &str = "/home/gitlab-runner";
    const USER: u32 = 999;
    let mut place = Place::new();
    // What Kubernetes makes of `certsSecretName`: links, so that all files change at once.
    let gitlabs = format!("{}.crt", place.scene.engine.gateway);
    let world = &place.scene.world;
    for (name, ca) in [(&*gitlabs, &place.scene.root), (CA, &place.vault_root)] {
        world.write(&format!("certs/..2026_11_22/{name}"), ca.certificate_pem());
        symlink(
            format!("..data/{name}"),
            world.path(&format!("certs/{name}")),
        )
        .expect("a link");
    }
    symlink("..2026_11_22", world.path("certs/..data")).expect("a link");
    world.write(
        "pod/.gitlab-runner/config.toml",
        world.read("etc/config.toml"),
    );
    for file in [
        "pod",
        "pod/.gitlab-runner",
        "pod/.gitlab-runner/config.toml",
    ] {
        chown(world.path(file), Some(USER), Some(USER)).expect("tests with an Engine run as root");
    }
    let home = place.volume("pod", HOME);
    let certs = place.volume("certs", &format!("{HOME}/.gitlab-runner/certs:ro"));
    let (user, home_is) = (USER.to_string(), format!("HOME={HOME}"));
    let pod = [
        "--user", &user, "--env", &home_is, "--volume", &home, "--volume", &certs,
    ];
    let run = [DEBIAN, "gitlab-runner", "run", "--working-directory", HOME];
    place.start(&pod, &run);
    // GitLab's certificate is taken from there by its name, the Vault's is not.
    place.is_not_trusted();
    place.remove();

    let values = documented("secrets.md", "yaml").remove(1);
    let (_, path) = values
        .split_once("value: ")
        .expect("the value of a variable");
    let variable = format!("VAULT_CACERT={}", path.trim());
    let options = [&pod[..], &["--env", &variable]].concat();
    place.start(&options, &run);
    let job = place.is_trusted(&user);
    // That is the runner, of the job's own user.
    says(&job, &["01O the first process is closed"]);
    place.remove();
}
