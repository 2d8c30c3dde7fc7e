//! Which directories of an image get a volume, and what is in it: what the image has there, and the private CAs.

use std::collections::{BTreeMap, BTreeSet};

use courser_trust::{
    Certificate, KeystoreWork, add_to_efi_list, add_to_java_keystore, add_to_pem_bundle,
    certificates_in_pem,
};

use super::anchors::{Anchors, file_name, pem_file};
use super::directory::{Content, Directory, DirectoryError};
use super::locations::{self, FIRST_BUNDLE, Kind, Sources};
use super::pem_directory;
use super::survey::{Place, Survey};

/// All private CAs in one file, beside the image's own sources: for programs that add a file to a list of their own.
const PRIVATE_FILE: &str = "courser-private-cas.pem";

/// Something of an image that stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftAlone {
    pub(super) path: String,
    pub(super) because: String,
}

/// What to do with one place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    kind: Kind,
    path: String,
}

/// What is to be read of an image, and then done.
#[derive(Debug)]
pub(super) struct Layout {
    tasks: Vec<Task>,
    /// Where a bundle is to be made: the image has none.
    new_bundle: Option<String>,
    /// Directories to cover, none in another, and whether the image has them.
    directories: BTreeMap<String, bool>,
    left_alone: Vec<LeftAlone>,
}

/// An image's certificates with the private CAs among them.
#[derive(Debug, Default)]
pub(super) struct Covered {
    /// Those that differ from the image's.
    pub(super) directories: Vec<Directory>,
    /// The bundle that most programs of the image read.
    pub(super) bundle: Option<MainBundle>,
    /// A file with the private CAs only.
    pub(super) private_file: Option<String>,
    pub(super) left_alone: Vec<LeftAlone>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MainBundle {
    pub(super) path: String,
    /// How many certificates the image has in it; `None` when it was made of the runner's system store.
    pub(super) own: Option<usize>,
}

impl Layout {
    pub(super) fn of(survey: &Survey) -> Self {
        let mut layout = Self {
            tasks: Vec::new(),
            new_bundle: None,
            directories: BTreeMap::new(),
            left_alone: Vec::new(),
        };
        for kind in [
            Kind::Bundle,
            Kind::AddedBundle,
            Kind::Keystore,
            Kind::EfiList,
        ] {
            for place in survey.places(kind) {
                if let Place::File(path) = place {
                    layout.want(kind, path, true);
                }
            }
        }
        if !layout.tasks.iter().any(|task| task.kind == Kind::Bundle) {
            layout.make_bundle(survey);
        }
        for place in survey.places(Kind::PemDirectory) {
            if let Place::Directory(path) = place {
                layout.want(Kind::PemDirectory, path, true);
            }
        }
        layout.want_sources(survey);
        for place in survey.places(Kind::Nss) {
            if let Place::File(path) = place
                && !layout
                    .tasks
                    .iter()
                    .any(|task| task.kind == Kind::Sources(Sources::P11Kit))
            {
                let because = "a database of NSS".to_owned();
                layout.left_alone.push(LeftAlone { path, because });
            }
        }
        let all: Vec<String> = layout.directories.keys().cloned().collect();
        layout.directories.retain(|path, _| {
            let holds = |other: &String| other != path && locations::is_at_or_below(path, other);
            !all.iter().any(holds)
        });
        layout
    }

    fn make_bundle(&mut self, survey: &Survey) {
        match survey.find(FIRST_BUNDLE) {
            Ok(Place::Absent(path)) => {
                let parent = parent(&path).to_owned();
                let exists = survey.find(&parent) == Ok(Place::Directory(parent.clone()));
                if self.want(Kind::Bundle, path.clone(), exists) {
                    self.new_bundle = Some(path);
                }
            }
            _ => self.left_alone.push(LeftAlone {
                path: FIRST_BUNDLE.to_owned(),
                because: "something else is in its place".to_owned(),
            }),
        }
    }

    fn want_sources(&mut self, survey: &Survey) {
        let mut found = false;
        for place in survey.places(Kind::Sources(Sources::P11Kit)) {
            if let Place::Directory(path) = place {
                found |= self.want(Kind::Sources(Sources::P11Kit), path, true);
            }
        }
        if found {
            return;
        }
        let kind = Kind::Sources(Sources::UpdateCaCertificates);
        for place in survey.places(kind) {
            match place {
                Place::Directory(path) => self.want(kind, path, true),
                Place::Absent(path) => self.want(kind, path, false),
                Place::File(_) | Place::Unusable => false,
            };
        }
    }

    /// Whether the place can be had.
    fn want(&mut self, kind: Kind, path: String, exists: bool) -> bool {
        let directory = match kind {
            Kind::PemDirectory | Kind::Sources(_) => path.as_str(),
            _ => parent(&path),
        };
        let directory = locations::covering(directory);
        if !locations::may_be_covered(directory) {
            let because = format!("{directory}/ holds too much else");
            self.left_alone.push(LeftAlone { path, because });
            return false;
        }
        // A part of a directory that is there may be missing, the whole is there then.
        let known = self.directories.entry(directory.to_owned()).or_default();
        *known |= exists;
        self.tasks.push(Task { kind, path });
        true
    }

    /// The directories to read.
    pub(super) fn to_read(&self) -> impl Iterator<Item = &str> {
        let existing = self.directories.iter().filter(|(_, exists)| **exists);
        existing.map(|(path, _)| path.as_str())
    }

    /// Puts the anchors into what was read.
    pub(super) fn cover(
        mut self,
        mut read: BTreeMap<String, Result<Directory, DirectoryError>>,
        anchors: &Anchors,
    ) -> Covered {
        let mut directories = Vec::new();
        for (path, exists) in &self.directories {
            match read.remove(path) {
                Some(Ok(directory)) => directories.push(directory),
                None if !exists => directories.push(Directory::absent(path)),
                Some(Err(error)) => self.left_alone.push(LeftAlone {
                    path: path.clone(),
                    because: error.to_string(),
                }),
                None => self.left_alone.push(LeftAlone {
                    path: path.clone(),
                    because: "it could not be read".to_owned(),
                }),
            }
        }
        let mut work = Work {
            anchors,
            directories,
            changed: BTreeSet::new(),
            hashed_anyway: BTreeSet::new(),
            source_files: None,
            covered: Covered {
                directories: Vec::new(),
                bundle: None,
                private_file: None,
                left_alone: self.left_alone,
            },
        };
        // Sources first: directories of hashes link to them, as the image's own tool would have it.
        self.tasks
            .sort_by_key(|task| !matches!(task.kind, Kind::Sources(_)));
        let pem_directories: Vec<String> = self
            .tasks
            .iter()
            .filter(|task| task.kind == Kind::PemDirectory)
            .map(|task| task.path.clone())
            .collect();
        let mut keystore_work = KeystoreWork::default();
        for Task { kind, path } in self.tasks {
            match kind {
                Kind::Bundle if self.new_bundle.as_ref() == Some(&path) => {
                    work.make_bundle(&path);
                    if !pem_directories.iter().any(|other| other == parent(&path)) {
                        work.hash(parent(&path));
                    }
                }
                Kind::Bundle => work.add_to_bundle(&path, true),
                Kind::AddedBundle => work.add_to_bundle(&path, false),
                Kind::PemDirectory => work.hash(&path),
                Kind::Keystore => work.add_to_file(&path, |file, anchors| {
                    add_to_java_keystore(file, anchors, &mut keystore_work)
                        .map_err(|error| error.to_string())
                }),
                Kind::EfiList => work.add_to_file(&path, |file, anchors| {
                    add_to_efi_list(file, anchors).map_err(|error| error.to_string())
                }),
                Kind::Sources(whose) => work.add_sources(&path, whose),
                Kind::Java | Kind::Nss => {}
            }
        }
        work.finish()
    }
}

struct Work<'a> {
    anchors: &'a Anchors,
    directories: Vec<Directory>,
    changed: BTreeSet<usize>,
    /// Directories in which certificates are found by hash from now on.
    hashed_anyway: BTreeSet<String>,
    /// Where each anchor has a file of its own, by which name.
    source_files: Option<String>,
    covered: Covered,
}

impl Work<'_> {
    /// The directory that has this path, and the path below it.
    fn locate(&self, path: &str) -> Option<(usize, String)> {
        self.directories
            .iter()
            .enumerate()
            .find_map(|(index, directory)| {
                let rest = path.strip_prefix(&directory.path)?;
                match rest.strip_prefix('/') {
                    Some(below) => Some((index, below.to_owned())),
                    None => rest.is_empty().then(|| (index, String::new())),
                }
            })
    }

    fn put(&mut self, index: usize, below: &str, content: Content) {
        self.directories[index].put(below, content);
        self.changed.insert(index);
    }

    fn add_to_file(
        &mut self,
        path: &str,
        mut add: impl FnMut(&[u8], &[&Certificate]) -> Result<Option<Vec<u8>>, String>,
    ) {
        // What could not be read has been told with its directory.
        let Some((index, below)) = self.locate(path) else {
            return;
        };
        let Some(Content::File(file)) = self.directories[index].get(&below) else {
            let because = "the engine shows something else than it said".to_owned();
            let path = path.to_owned();
            self.covered.left_alone.push(LeftAlone { path, because });
            return;
        };
        match add(file, &self.anchors.private()) {
            Ok(Some(bytes)) => self.put(index, &below, Content::File(bytes.into())),
            Ok(None) => {}
            Err(because) => {
                let path = path.to_owned();
                self.covered.left_alone.push(LeftAlone { path, because });
            }
        }
    }

    fn add_to_bundle(&mut self, path: &str, is_system: bool) {
        let Some((index, below)) = self.locate(path) else {
            return;
        };
        if is_system
            && self.covered.bundle.is_none()
            && let Some(Content::File(file)) = self.directories[index].get(&below)
        {
            self.covered.bundle = Some(MainBundle {
                path: path.to_owned(),
                own: Some(certificates_in_pem(file)),
            });
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.hashed_anyway.insert(parent.to_owned());
        }
        self.add_to_file(path, |file, anchors| Ok(add_to_pem_bundle(file, anchors)));
    }

    /// An image without a bundle reaches nobody; with the private CAs alone it would still reach nobody else, and programs
    /// that have roots of their own for such images would take the new file in their place.
    fn make_bundle(&mut self, path: &str) {
        let Some((index, below)) = self.locate(path) else {
            return;
        };
        let system = self.anchors.system.iter();
        let all = system.chain(&self.anchors.private).map(AsRef::as_ref);
        self.put(index, &below, Content::File(pem_file(all)));
        self.hashed_anyway.insert(parent(path).to_owned());
        self.covered.bundle = Some(MainBundle {
            path: path.to_owned(),
            own: None,
        });
    }

    fn hash(&mut self, path: &str) {
        let Some((index, below)) = self.locate(path) else {
            return;
        };
        let made_here = matches!(
            &self.covered.bundle,
            Some(MainBundle { path: bundle, own: None }) if parent(bundle) == path
        );
        let directory = &mut self.directories[index];
        let is_hashed = pem_directory::is_hashed(directory, &below);
        // Where there are only links to bundles elsewhere (Red Hat), nobody looks for hashes.
        if !is_hashed && !self.hashed_anyway.contains(path) {
            return;
        }
        let mut added = false;
        for certificate in &self.anchors.private {
            let source = self
                .source_files
                .as_ref()
                .map(|sources| format!("{sources}/{}.crt", file_name(certificate)));
            added |= pem_directory::add(directory, &below, certificate, source);
        }
        if made_here && !is_hashed {
            for certificate in &self.anchors.system {
                added |= pem_directory::add(directory, &below, certificate, None);
            }
        }
        if added {
            self.changed.insert(index);
        }
    }

    fn add_sources(&mut self, path: &str, whose: Sources) {
        let Some((index, below)) = self.locate(path) else {
            return;
        };
        let at = |name: &str| match below.as_str() {
            "" => name.to_owned(),
            below => format!("{below}/{name}"),
        };
        if whose == Sources::UpdateCaCertificates {
            for certificate in self.anchors.private() {
                let name = format!("{}.crt", file_name(certificate));
                self.put(index, &at(&name), Content::File(pem_file([certificate])));
            }
            self.source_files = Some(path.to_owned());
        }
        let file = pem_file(self.anchors.private());
        self.put(index, &at(PRIVATE_FILE), Content::File(file));
        let private_file = || format!("{path}/{PRIVATE_FILE}");
        self.covered.private_file.get_or_insert_with(private_file);
    }

    fn finish(self) -> Covered {
        let Self {
            directories,
            changed,
            mut covered,
            ..
        } = self;
        let numbered = directories.into_iter().enumerate();
        covered.directories = numbered
            .filter(|(index, _)| changed.contains(index))
            .map(|(_, directory)| directory)
            .collect();
        covered
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
