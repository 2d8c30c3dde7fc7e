//! Variables in containers (`executor-docker.md` 5.2): all of them for the job's own, for services what they may see.

use std::collections::HashMap;

use courser_job::Job;
use courser_protocol::JobVariable;

use crate::networks::Network;

/// Of the build and the helper container.
pub(crate) fn of_job(job: &Job, network: &Network) -> Vec<String> {
    entries(job, job.variables().iter(), network, &[])
}

/// Of a service with variables of its own.
pub(crate) fn of_service(job: &Job, network: &Network, own: &[JobVariable]) -> Vec<String> {
    entries(job, job.variables().for_services(), network, own)
}

/// Each name once, with its last value: a process that has a name twice may take either. What no process can have
/// (a name that is empty or holds `=`, a NUL) is left out, as the shells leave it out.
fn entries<'a>(
    job: &Job,
    variables: impl Iterator<Item = &'a JobVariable>,
    network: &Network,
    own: &[JobVariable],
) -> Vec<String> {
    let value = |variable: &JobVariable| {
        if variable.file {
            job.variables().file_path(&variable.key)
        } else {
            variable.value.expose().to_owned()
        }
    };
    let network = network
        .own_name()
        .map(|name| ("CI_BUILD_NETWORK_NAME".to_owned(), name.to_owned()));
    let all = variables
        .map(|variable| (variable.key.clone(), value(variable)))
        .chain(network)
        .chain(
            own.iter()
                .map(|variable| (variable.key.clone(), variable.value.expose().to_owned())),
        )
        .filter(|(name, value)| {
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
        });
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut entries: Vec<String> = Vec::new();
    for (name, value) in all {
        let entry = format!("{name}={value}");
        match places.get(&name) {
            Some(place) => entries[*place] = entry,
            None => {
                places.insert(name, entries.len());
                entries.push(entry);
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use bollard::models::NetworkCreateRequest;
    use serde_json::json;

    use super::*;
    use crate::testing::job;

    #[test]
    fn each_name_is_there_once_and_files_are_paths() {
        let job = job(json!({"variables": [
            {"key": "A", "value": "1"}, {"key": "A", "value": "2"}, {"key": "B", "value": "<$A>"},
            {"key": "F", "value": "content", "file": true}, {"key": "", "value": "x"}, {"key": "X=Y", "value": "x"},
            {"key": "N", "value": "a\u{0}b"}, {"key": "with-hyphen", "value": "kept"},
        ]}));
        let environment = of_job(&job, &Network::Default);
        let starting = |name: &str| {
            let found = environment.iter().filter(|entry| entry.starts_with(name));
            found.map(String::as_str).collect::<Vec<_>>()
        };
        assert_eq!(starting("A="), ["A=2"]);
        assert_eq!(starting("B="), ["B=<2>"]);
        assert_eq!(starting("F="), ["F=/builds/group/p.tmp/F"]);
        assert_eq!(starting("with-hyphen="), ["with-hyphen=kept"]);
        assert!(starting("X=").is_empty() && starting("N=").is_empty() && starting("=").is_empty());
        assert!(starting("CI_BUILD_NETWORK_NAME").is_empty());
    }

    #[test]
    fn the_job_s_own_network_is_a_variable_everywhere() {
        let network = Network::OfJob(Box::new(NetworkCreateRequest {
            name: "net".to_owned(),
            ..NetworkCreateRequest::default()
        }));
        let job = job(json!({}));
        for environment in [of_job(&job, &network), of_service(&job, &network, &[])] {
            assert!(environment.contains(&"CI_BUILD_NETWORK_NAME=net".to_owned()));
        }
    }
}
