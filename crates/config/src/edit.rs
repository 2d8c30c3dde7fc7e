//! Changing `config.toml` in place: comments, order and unknown keys stay.
//!
//! Text in, text out; the caller replaces the file at once, mode 0600. Upstream rewrites the whole
//! file and loses comments and foreign keys (`runner-config.md` 14.5); Courser does not.

use jiff::Timestamp;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table};

use courser_protocol::Secret;

use crate::entry::{RunnerEntry, time_value};
use crate::error::{ConfigError, Source};

/// A file that is being changed. Runners are numbered as in [`crate::Config::runners`].
#[derive(Debug, Clone)]
pub struct ConfigDocument {
    document: DocumentMut,
}

impl ConfigDocument {
    /// Takes the text of a file that [`crate::load()`] accepts.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let source = Source { file, text };
        let mut document: DocumentMut =
            text.parse().map_err(|error| source.syntax_error(&error))?;
        if let Some(runners) = runners_of(&mut document)
            && runners.as_array_of_tables().is_none()
        {
            // Written as `runners = [{ … }]`: the same tables, one under the other.
            let tables = std::mem::take(runners)
                .into_array_of_tables()
                .unwrap_or_default();
            *runners = Item::ArrayOfTables(tables);
        }
        Ok(Self { document })
    }

    /// What upstream writes where there was no file.
    pub fn for_new_file() -> Self {
        let mut document = DocumentMut::new();
        document["concurrent"] = toml_edit::value(1);
        document["check_interval"] = toml_edit::value(0);
        document["shutdown_timeout"] = toml_edit::value(0);
        let mut session_server = Table::new();
        session_server["session_timeout"] = toml_edit::value(1800);
        if let Some(mut name) = session_server.key_mut("session_timeout") {
            name.leaf_decor_mut().set_prefix("  ");
        }
        session_server.decor_mut().set_prefix("\n");
        document["session_server"] = Item::Table(session_server);
        Self { document }
    }

    /// Adds a runner at the end of the file.
    pub fn append_runner(&mut self, entry: &RunnerEntry) {
        let mut table = entry.to_table();
        let end = last_position(self.document.as_table()) + 1;
        let trailing = self.document.trailing().as_str().unwrap_or_default();
        let gap = if trailing.is_empty() || trailing.ends_with('\n') {
            "\n"
        } else {
            "\n\n"
        };
        let prefix = format!("{trailing}{gap}");
        table.decor_mut().set_prefix(prefix);
        self.document.set_trailing("");
        let mut position = end;
        number_tables(&mut table, &mut position);
        match runners_of(&mut self.document) {
            Some(Item::ArrayOfTables(runners)) => runners.push(table),
            _ => {
                let mut runners = ArrayOfTables::new();
                runners.push(table);
                self.document
                    .insert("runners", Item::ArrayOfTables(runners));
            }
        }
    }

    /// Takes a runner out; nothing happens where there is none of that number.
    pub fn remove_runner(&mut self, number: usize) {
        if let Some(Item::ArrayOfTables(runners)) = runners_of(&mut self.document)
            && number < runners.len()
        {
            runners.remove(number);
        }
    }

    /// Stores a new token with its dates; `expires_at` `None` is never.
    pub fn set_token(
        &mut self,
        number: usize,
        token: &Secret,
        obtained_at: Timestamp,
        expires_at: Option<Timestamp>,
    ) {
        if let Some(Item::ArrayOfTables(runners)) = runners_of(&mut self.document)
            && let Some(runner) = runners.get_mut(number)
        {
            set(runner, "token", token.expose().into());
            set(runner, "token_obtained_at", time_value(Some(obtained_at)));
            set(runner, "token_expires_at", time_value(expires_at));
        }
    }

    /// The text to write.
    pub fn render(&self) -> String {
        self.document.to_string()
    }
}

fn runners_of(document: &mut DocumentMut) -> Option<&mut Item> {
    let name = if document.contains_key("runners") {
        "runners".to_owned()
    } else {
        document
            .iter()
            .map(|(name, _)| name)
            .find(|name| name.eq_ignore_ascii_case("runners"))?
            .to_owned()
    };
    document.get_mut(&name)
}

/// Changes a value and keeps what stands around it; a new key is laid out like its neighbours.
fn set(table: &mut Table, name: &str, value: toml_edit::Value) {
    let written = if table.contains_key(name) {
        Some(name.to_owned())
    } else {
        table
            .iter()
            .map(|(other, _)| other)
            .find(|other| other.eq_ignore_ascii_case(name))
            .map(ToOwned::to_owned)
    };
    if let Some(old) = written
        .and_then(|written| table.get_mut(&written))
        .and_then(Item::as_value_mut)
    {
        let decor = old.decor().clone();
        *old = value;
        *old.decor_mut() = decor;
        return;
    }
    let indent: String = table
        .iter()
        .next()
        .and_then(|(first, _)| table.key(first))
        .and_then(|key| key.leaf_decor().prefix())
        .and_then(|prefix| prefix.as_str())
        .and_then(|prefix| prefix.rsplit('\n').next())
        .unwrap_or_default()
        .to_owned();
    table.insert(name, Item::Value(value));
    if let Some(mut key) = table.key_mut(name) {
        key.leaf_decor_mut().set_prefix(indent);
    }
}

fn last_position(table: &Table) -> isize {
    let below = table
        .iter()
        .map(|(_, item)| match item {
            Item::Table(table) => last_position(table),
            Item::ArrayOfTables(tables) => tables.iter().map(last_position).max().unwrap_or(0),
            _ => 0,
        })
        .max()
        .unwrap_or(0);
    below.max(table.position().unwrap_or(0))
}

fn number_tables(table: &mut Table, position: &mut isize) {
    table.set_position(Some(*position));
    *position += 1;
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(table) => number_tables(table, position),
            Item::ArrayOfTables(tables) => {
                for table in tables.iter_mut() {
                    number_tables(table, position);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Kind;

    fn entry(executor: &str) -> RunnerEntry {
        let mut entry = RunnerEntry::new();
        entry.set_text(&["name"], "host");
        entry.set_text(&["url"], "https://gitlab.example.com");
        entry.set_number(&["id"], 7);
        entry.set_text(&["token"], "glrt-x");
        entry.set_time(
            &["token_obtained_at"],
            "2026-01-02T03:04:05.9Z".parse().ok(),
        );
        entry.set_text(&["executor"], executor);
        entry.settle_for_executor();
        entry
    }

    #[test]
    fn a_new_file_is_what_upstream_writes() {
        let mut document = ConfigDocument::for_new_file();
        let mut docker = RunnerEntry::new();
        docker.set_text(&["docker", "image"], "alpine:latest");
        docker.set_texts(&["docker", "volumes"], &["/cache".to_owned()]);
        docker.set_text(&["ssh", "host"], "left out");
        docker.set_text(&["name"], "host");
        docker.set_text(&["url"], "https://gitlab.example.com");
        docker.set_number(&["id"], 7);
        docker.set_text(&["token"], "glrt-x");
        docker.set_time(&["token_obtained_at"], "2026-01-02T03:04:05Z".parse().ok());
        docker.set_text(&["executor"], "docker");
        docker.settle_for_executor();
        document.append_runner(&docker);
        // runner-config.md 14.5
        insta::assert_snapshot!(document.render(), @r#"
        concurrent = 1
        check_interval = 0
        shutdown_timeout = 0

        [session_server]
          session_timeout = 1800

        [[runners]]
          name = "host"
          url = "https://gitlab.example.com"
          id = 7
          token = "glrt-x"
          token_obtained_at = 2026-01-02T03:04:05Z
          token_expires_at = 0001-01-01T00:00:00Z
          executor = "docker"
          [runners.cache]
            MaxUploadedArchiveSize = 0
            [runners.cache.s3]
              AssumeRoleMaxConcurrency = 0
            [runners.cache.gcs]
            [runners.cache.azure]
          [runners.docker]
            tls_verify = false
            image = "alpine:latest"
            privileged = false
            disable_entrypoint_overwrite = false
            oom_kill_disable = false
            disable_cache = false
            volumes = ["/cache"]
            volume_keep = false
            shm_size = 0
            network_mtu = 0
        "#);
    }

    #[test]
    fn every_executor_has_its_sections() {
        let sections = |executor: &str| {
            let mut document = ConfigDocument::parse("", "c").expect("empty");
            document.append_runner(&entry(executor));
            document
                .render()
                .lines()
                .filter(|line| line.trim_start().starts_with('['))
                .map(|line| line.trim().replace("runners.", ""))
                .skip(5)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(sections("shell"), "");
        assert_eq!(sections("ssh"), "[ssh]");
        assert_eq!(sections("custom"), "[custom]");
        assert_eq!(sections("virtualbox"), "[ssh] [virtualbox]");
        assert_eq!(sections("docker+machine"), "[docker] [machine]");
        let kubernetes = sections("kubernetes");
        assert!(kubernetes.starts_with("[kubernetes] [kubernetes.pod_security_context] [kubernetes.pod_security_context.seccomp_profile]"), "{kubernetes}");
        assert!(
            kubernetes.ends_with("[kubernetes.volumes] [kubernetes.dns_config]"),
            "{kubernetes}"
        );
    }

    const WRITTEN_BY_HAND: &str = "# ours\nconcurrent = 4 # more\n\n[[runners]] # first\n  \
        name = \"a\"\n  Token = \"old\" # rotate\n  unknown = 1\n  [runners.custom_build_dir]\n  \
        enabled = true\n\n# second\n[[runners]]\nname = \"b\"\n\n[session_server]\n\
        session_timeout = 60\n# the end\n";

    #[test]
    fn appending_keeps_all_there_was_and_stands_last() {
        let mut document = ConfigDocument::parse(WRITTEN_BY_HAND, "c").expect("valid");
        document.append_runner(&entry("shell"));
        let text = document.render();
        assert!(text.starts_with(WRITTEN_BY_HAND), "{text}");
        let added = &text[WRITTEN_BY_HAND.len()..];
        assert!(
            added.starts_with("\n[[runners]]\n  name = \"host\"\n"),
            "{added}"
        );
        let config = crate::load(&text, "c", &crate::Environment::default())
            .expect("still valid")
            .config;
        let names: Vec<_> = config
            .runners
            .iter()
            .map(|runner| runner.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b", "host"]);
    }

    #[test]
    fn a_token_is_replaced_where_it_stands() {
        let mut document = ConfigDocument::parse(WRITTEN_BY_HAND, "c").expect("valid");
        let obtained: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
        document.set_token(0, &"new".into(), obtained, None);
        let text = document.render();
        assert!(text.contains("  Token = \"new\" # rotate\n"), "{text}");
        assert!(
            text.contains("  token_obtained_at = 2026-01-02T03:04:05Z\n"),
            "{text}"
        );
        assert!(
            text.contains("  token_expires_at = 0001-01-01T00:00:00Z\n"),
            "{text}"
        );
        assert!(text.contains("unknown = 1"), "{text}");
    }

    #[test]
    fn removing_takes_one_runner_and_nothing_else() {
        let mut document = ConfigDocument::parse(WRITTEN_BY_HAND, "c").expect("valid");
        document.remove_runner(0);
        document.remove_runner(7);
        assert_eq!(
            document.render(),
            "# ours\nconcurrent = 4 # more\n\n# second\n[[runners]]\nname = \"b\"\n\n\
             [session_server]\nsession_timeout = 60\n# the end\n"
        );
    }

    #[test]
    fn inline_runners_can_be_edited_too() {
        let mut document =
            ConfigDocument::parse("runners = [{ name = \"a\" }]\n", "c").expect("valid");
        document.append_runner(&entry("shell"));
        let config = crate::load(&document.render(), "c", &crate::Environment::default())
            .expect("still valid")
            .config;
        assert_eq!(config.runners.len(), 2);
    }

    #[test]
    fn flags_become_values_of_their_key_s_type() {
        let mut entry = RunnerEntry::new();
        let texts = |list: &[&str]| {
            list.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let mut set = |path: &[&'static str], kind, list: &[&str]| {
            entry.set_from_flag(path, kind, &texts(list))
        };
        for (path, kind, list) in [
            (&["limit"][..], Kind::Int, &["3"][..]),
            (&["environment"], Kind::Texts, &["A=1,2", "B=\"q\""]),
            (&["unhealthy_interval"], Kind::OptionalDuration, &["300s"]),
            (&["strict_check_interval"], Kind::OptionalBool, &["T"]),
            (&["feature_flags"], Kind::BoolMap, &["FF_B:true", "FF_A:0"]),
            (
                &["docker", "pull_policy"],
                Kind::TextOrTexts,
                &["never", "always, never"],
            ),
            (&["docker", "tmpfs"], Kind::TextMap, &["/run:rw", "/x"]),
            (
                &["docker", "services_devices"],
                Kind::TextsMap,
                &["redis:/dev/a:b"],
            ),
        ] {
            assert_eq!(set(path, kind, list), Ok(()), "{path:?}");
        }
        assert!(set(&["limit"], Kind::Int, &["x"]).is_err());
        assert!(set(&["feature_flags"], Kind::BoolMap, &["FF_A"]).is_ok());
        assert!(set(&["unhealthy_interval"], Kind::OptionalDuration, &["3 s"]).is_err());
        entry
            .set_from_flag(
                &["feature_flags"],
                Kind::BoolMap,
                &texts(&["FF_B:true", "FF_A:0"]),
            )
            .expect("set again");
        entry.set_text(&["executor"], "docker");
        entry.settle_for_executor();
        let mut document = ConfigDocument::parse("", "c").expect("empty");
        document.append_runner(&entry);
        let text = document.render();
        for expected in [
            "  limit = 3\n",
            "  environment = [\"A=1,2\", 'B=\"q\"']\n",
            "  unhealthy_interval = \"5m0s\"\n",
            "  strict_check_interval = true\n",
            "  [runners.feature_flags]\n    FF_A = false\n    FF_B = true\n",
            "    pull_policy = [\"always\", \"never\"]\n",
            "    [runners.docker.tmpfs]\n      \"/run\" = \"rw\"\n      \"/x\" = \"\"\n",
            "    [runners.docker.services_devices]\n      redis = [\"/dev/a:b\"]\n",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
        crate::load(&text, "c", &crate::Environment::default()).expect("it loads again");
    }

    #[test]
    fn a_template_fills_what_is_empty() {
        let mut entry = RunnerEntry::new();
        entry.set_text(&["name"], "mine");
        entry.set_text(&["executor"], "kubernetes");
        entry.set_text(&["kubernetes", "image"], "mine");
        entry
            .merge_template(
                "concurrent = 9\n[[runners]]\nname = \"theirs\"\ntoken = \"theirs\"\nlimit = 3\n\
                 [runners.kubernetes]\nImage = \"theirs\"\nnamespace = \"ci\"\n\
                 [[runners.kubernetes.volumes.empty_dir]]\nname = \"x\"\nmount_path = \"/x\"\n\
                 [runners.feature_flags]\nFF_X = true\n",
                "template.toml",
            )
            .expect("a good template");
        assert_eq!(entry.text(&["name"]), Some("mine"));
        assert_eq!(entry.text(&["token"]), None);
        assert_eq!(entry.number(&["limit"]), Some(3));
        assert_eq!(entry.text(&["kubernetes", "image"]), Some("mine"));
        assert_eq!(entry.text(&["kubernetes", "namespace"]), Some("ci"));
        entry.settle_for_executor();
        let mut document = ConfigDocument::parse("", "c").expect("empty");
        document.append_runner(&entry);
        let text = document.render();
        assert!(
            text.contains("      [[runners.kubernetes.volumes.empty_dir]]\n        name = \"x\"\n"),
            "{text}"
        );
        assert!(text.contains("    FF_X = true\n"), "{text}");
        for bad in ["", "[[runners]]\n[[runners]]\n", "limit = \n"] {
            assert!(
                RunnerEntry::new().merge_template(bad, "t").is_err(),
                "{bad}"
            );
        }
    }
}
