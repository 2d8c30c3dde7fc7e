//! Names of everything that a job has in the engine (`executor-docker.md` 3). What a dead runner left is found by
//! labels, but people and scripts know these names.

use courser_job::Job;

/// Names of one preparation of one job: a preparation that is tried again gets new ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    project: String,
    base: String,
    network: String,
}

impl Names {
    /// `random` tells this preparation from all others.
    pub(crate) fn new(job: &Job, random: [u8; 8]) -> Self {
        let context = job.context();
        let (token, concurrent) = (&context.short_token, context.concurrent_project_id);
        let payload = job.payload();
        let project_id = payload.job_info.project_id;
        let project = rfc_1123(&format!(
            "runner-{token}-project-{project_id}-concurrent-{concurrent}"
        ));
        Self {
            base: format!("{project}-{}", hex::encode(random)),
            network: rfc_1123(&format!(
                "runner-{token}-{project_id}-{concurrent}-{}",
                payload.id
            )),
            project,
        }
    }

    /// Without a random part: the same for all jobs in this place of the project. Host name of containers.
    pub(crate) fn project(&self) -> &str {
        &self.project
    }

    /// What the names of containers and temporary volumes begin with.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// [`Self::build`] and [`Self::helper`] of what has this base.
    pub(crate) fn of_stages(base: &str) -> [String; 2] {
        ["build", "predefined"].map(|kind| format!("{base}-{kind}"))
    }

    /// The container with the job's image.
    pub(crate) fn build(&self) -> String {
        let [build, _] = Self::of_stages(&self.base);
        build
    }

    /// The container of predefined stages.
    pub(crate) fn helper(&self) -> String {
        let [_, helper] = Self::of_stages(&self.base);
        helper
    }

    /// The container of a service; `index` counts all services of the job.
    pub(crate) fn service(&self, service: &str, index: usize) -> String {
        format!("{}-{}-{index}", self.base, service.replace('/', "__"))
    }

    /// The job's own network, also `CI_BUILD_NETWORK_NAME`.
    pub(crate) fn network(&self) -> &str {
        &self.network
    }
}

/// A host name's label: lower case, letters, digits and hyphens, the first no hyphen, 63 at most.
fn rfc_1123(name: &str) -> String {
    let allowed =
        |letter: &char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || *letter == '-';
    let letters = name.chars().map(|letter| letter.to_ascii_lowercase());
    let label = letters.filter(allowed).skip_while(|letter| *letter == '-');
    label.take(63).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::job;

    #[test]
    fn names_are_upstreams() {
        let names = Names::new(&job(json!({})), [0, 1, 2, 3, 4, 5, 0xab, 0xcd]);
        let base = "runner-abc_def_g-project-7-concurrent-2".replace('_', "");
        assert_eq!(names.project(), base);
        assert_eq!(names.build(), format!("{base}-000102030405abcd-build"));
        assert_eq!(
            names.helper(),
            format!("{base}-000102030405abcd-predefined")
        );
        let service = names.service("reg.tld/a/b", 3);
        assert_eq!(service, format!("{base}-000102030405abcd-reg.tld__a__b-3"));
        assert_eq!(names.network(), "runner-abcdefg-7-2-42");
    }

    #[test]
    fn labels_of_host_names_have_no_other_letters() {
        for (name, expected) in [
            ("Runner-A_b.C", "runner-abc"),
            ("--x-", "x-"),
            ("-é-1", "1"),
            ("", ""),
        ] {
            assert_eq!(rfc_1123(name), expected, "{name}");
        }
        assert_eq!(rfc_1123(&"a".repeat(70)).len(), 63);
    }
}
