//! Finding out what of the known places an image has, and where their links lead: questions to the engine and their
//! answers, without asking anything itself.
//!
//! The engine evaluates links inside the image's root only, so that nothing an image says leads out of it. Each component
//! of a path is asked for once, and what lies below a missing directory never.

use std::collections::{BTreeMap, BTreeSet};

use super::locations::{self, Kind};

/// What the engine says of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stat {
    Missing,
    File,
    Directory,
    /// Where it leads in the end, absolute.
    Link(String),
    /// A device, a socket, or a link that cannot be followed.
    Other,
}

/// A place in the image, with no link on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    File(String),
    Directory(String),
    /// Nothing is there; it could be made.
    Absent(String),
    /// Something else is there or on the way.
    Unusable,
}

/// An honest image is asked some sixty questions.
const MOST_QUESTIONS: usize = 400;

#[derive(Debug)]
pub(super) struct Survey {
    wanted: Vec<(Kind, String)>,
    answers: BTreeMap<String, Stat>,
}

impl Survey {
    /// Of an image with this environment, `NAME=value`.
    pub(super) fn of(environment: &[String]) -> Self {
        Self {
            wanted: locations::of_image(environment),
            answers: BTreeMap::new(),
        }
    }

    /// Paths to ask for next; none when all is known.
    pub(super) fn questions(&self) -> BTreeSet<String> {
        if self.answers.len() > MOST_QUESTIONS {
            return BTreeSet::new();
        }
        let questions = self.wanted.iter();
        questions
            .filter_map(|(_, path)| self.find(path).err())
            .collect()
    }

    /// What is at a path that was asked for.
    pub(super) fn answer(&mut self, path: String, stat: Stat) {
        let stat = match stat {
            Stat::Link(target) if !locations::is_plain(&target) => Stat::Other,
            stat => stat,
        };
        self.answers.insert(path, stat);
        let launchers = self.wanted.iter().filter(|(kind, _)| *kind == Kind::Java);
        let homes: Vec<String> = launchers
            .filter_map(|(_, path)| match self.find(path) {
                Ok(Place::File(launcher)) => locations::home_of_java(&launcher).map(str::to_owned),
                _ => None,
            })
            .collect();
        for wanted in homes.iter().flat_map(|home| locations::keystores_of(home)) {
            if !self.wanted.contains(&wanted) {
                self.wanted.push(wanted);
            }
        }
    }

    /// The places of one kind, each once, in the order of the table.
    pub(super) fn places(&self, kind: Kind) -> Vec<Place> {
        let mut places = Vec::new();
        for (_, path) in self.wanted.iter().filter(|(other, _)| *other == kind) {
            if let Ok(place) = self.find(path)
                && !places.contains(&place)
            {
                places.push(place);
            }
        }
        places
    }

    /// Where a path leads as far as is known; else what has to be asked first.
    pub(super) fn find(&self, path: &str) -> Result<Place, String> {
        let mut at = String::new();
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            let next = format!("{at}/{part}");
            at = match self.answers.get(&next) {
                None => return Err(next),
                Some(Stat::Missing) => {
                    let rest = parts.flat_map(|part| ["/", part]);
                    return Ok(Place::Absent(next + &rest.collect::<String>()));
                }
                Some(Stat::Link(target)) => target.clone(),
                Some(Stat::File | Stat::Other) if parts.peek().is_some() => {
                    return Ok(Place::Unusable);
                }
                Some(Stat::Directory | Stat::File) => next,
                Some(Stat::Other) => return Ok(Place::Unusable),
            };
        }
        match self.answers.get(&at) {
            None => Err(at),
            Some(Stat::File) => Ok(Place::File(at)),
            Some(Stat::Directory) => Ok(Place::Directory(at)),
            Some(Stat::Missing) => Ok(Place::Absent(at)),
            Some(Stat::Link(_) | Stat::Other) => Ok(Place::Unusable),
        }
    }

    /// A path of somebody else as far as its links are known.
    pub(super) fn resolved(&self, path: &str) -> String {
        match self.find(path) {
            Ok(Place::File(path) | Place::Directory(path) | Place::Absent(path)) => path,
            Ok(Place::Unusable) => path.to_owned(),
            Err(_) => {
                // Beyond what was asked for, the nearest known directory decides.
                match path.rsplit_once('/') {
                    Some((parent, name)) if !parent.is_empty() => {
                        format!("{}/{name}", self.resolved(parent))
                    }
                    _ => path.to_owned(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers all questions out of a list of paths, `path -> target` for links, a `/` at the end of directories.
    fn surveyed(environment: &[&str], image: &[&str]) -> (Survey, usize) {
        let environment: Vec<String> = environment.iter().map(|&one| one.to_owned()).collect();
        let mut survey = Survey::of(&environment);
        let mut asked = 0;
        loop {
            let questions = survey.questions();
            if questions.is_empty() {
                return (survey, asked);
            }
            for path in questions {
                asked += 1;
                let stat = stat(image, &path);
                survey.answer(path, stat);
            }
        }
    }

    fn stat(image: &[&str], path: &str) -> Stat {
        for entry in image {
            if let Some((name, target)) = entry.split_once(" -> ") {
                if name == path {
                    return Stat::Link(target.to_owned());
                }
            } else if let Some(directory) = entry.strip_suffix('/') {
                if directory == path {
                    return Stat::Directory;
                }
            } else if *entry == path {
                return Stat::File;
            }
        }
        let below = format!("{path}/");
        let is_parent = image.iter().any(|entry| entry.starts_with(&below));
        if is_parent {
            Stat::Directory
        } else {
            Stat::Missing
        }
    }

    #[test]
    fn links_lead_to_one_place_however_it_is_called() {
        let (survey, asked) = surveyed(
            &[],
            &[
                "/etc/ssl/certs -> /etc/pki/tls/certs",
                "/etc/pki/tls/certs/",
                "/etc/pki/tls/cert.pem -> /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
                "/etc/pki/tls/certs/ca-bundle.crt -> /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
                "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
                "/etc/pki/ca-trust/source/anchors/",
            ],
        );
        let files: Vec<Place> = survey
            .places(Kind::Bundle)
            .into_iter()
            .filter(|place| matches!(place, Place::File(_)))
            .collect();
        let bundle = "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem";
        assert_eq!(files, [Place::File(bundle.to_owned())]);
        let directories = survey.places(Kind::PemDirectory);
        assert_eq!(
            directories[0],
            Place::Directory("/etc/pki/tls/certs".to_owned())
        );
        assert_eq!(
            survey.resolved("/etc/ssl/certs/x/y"),
            "/etc/pki/tls/certs/x/y"
        );
        assert!(asked < 60, "{asked}");
    }

    #[test]
    fn an_empty_image_is_asked_little_and_places_can_be_made_in_it() {
        let (survey, asked) = surveyed(&[], &[]);
        assert_eq!(
            survey.places(Kind::Bundle)[0],
            Place::Absent(locations::FIRST_BUNDLE.to_owned())
        );
        assert!(asked <= 8, "{asked}");
    }

    #[test]
    fn java_is_found_by_its_home_and_by_its_launcher() {
        let found = |environment: &[&str], image: &[&str]| {
            let (survey, _) = surveyed(environment, image);
            let places = survey.places(Kind::Keystore).into_iter();
            places
                .filter_map(|place| match place {
                    Place::File(path) => Some(path),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            found(
                &["JAVA_17_HOME=/jdk/17/"],
                &["/jdk/17/lib/security/cacerts"]
            ),
            ["/jdk/17/lib/security/cacerts"]
        );
        let launched = [
            "/usr/bin/java -> /usr/lib/jvm/eight/jre/bin/java",
            "/usr/lib/jvm/eight/jre/bin/java",
            "/usr/lib/jvm/eight/jre/lib/security/cacerts -> /etc/ssl/certs/java/cacerts",
            "/etc/ssl/certs/java/cacerts",
        ];
        for environment in [&["PATH=/opt/bin:/usr/bin:relative"][..], &[]] {
            let found = found(environment, &launched);
            assert_eq!(found, ["/etc/ssl/certs/java/cacerts"], "{environment:?}");
        }
    }

    #[test]
    fn hostile_links_and_environments_end_nowhere() {
        for target in ["/", "", "relative", "/a/../../b", "/a\nb", "/etc/ssl/certs"] {
            let link = format!("/etc/ssl/certs -> {target}");
            let (survey, _) = surveyed(&[], &[&link]);
            let directories = survey.places(Kind::PemDirectory);
            assert!(directories.contains(&Place::Unusable), "{target:?}");
        }
        // A file where a directory should be.
        let (survey, _) = surveyed(&[], &["/etc/ssl"]);
        assert!(!survey.places(Kind::PemDirectory).iter().any(|place| {
            matches!(place, Place::Directory(path) | Place::Absent(path) if path.starts_with("/etc/ssl"))
        }));
        let long = format!("PATH={}", "/x/y:".repeat(100_000));
        let (_, asked) = surveyed(&[&long, "SSL_CERT_FILE=../../x", "JAVA_HOME=//"], &[]);
        assert!(asked < 20, "{asked}");
    }
}
