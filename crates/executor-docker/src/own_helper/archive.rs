//! The image as an archive that an Engine loads: a list, a configuration and two layers.

use std::io::{self, Write};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bollard::models::ImageInspect;
use serde_json::{Value, json};
use tar::EntryType;

use super::layer::{Layer, ProgramLayer, RootLayer, header};

/// All our images have it; its value is the version.
pub(super) const LABEL: &str = "courser.helper-image";

/// As in most images of Debian.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image to be. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Archive {
    configuration: Arc<str>,
    root: Arc<RootLayer>,
    program: Arc<ProgramLayer>,
}

impl Archive {
    pub(super) fn new(
        architecture: &str,
        root: Arc<RootLayer>,
        program: Arc<ProgramLayer>,
    ) -> Self {
        let layers = [&root.layer, &program.layer].map(|layer| layer.digest.as_str());
        let configuration = configuration(architecture, layers).to_string();
        Self {
            configuration: configuration.into(),
            root,
            program,
        }
    }

    /// Of the content: another image has another one.
    pub(super) fn tag(&self) -> String {
        self.id()[..16].to_owned()
    }

    /// Whether an image of an Engine is this one: its layers, and how its containers start.
    pub(super) fn is_in(&self, image: &ImageInspect) -> bool {
        let same_layers = super::layers(image)
            .iter()
            .eq(self.layers().map(|layer| &layer.digest));
        let Some(config) = &image.config else {
            return false;
        };
        let own = &own_config();
        let texts = |value: &Value| {
            let texts = value.as_array().into_iter().flatten();
            texts
                .filter_map(|text| Some(text.as_str()?.to_owned()))
                .collect::<Vec<_>>()
        };
        let none = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        same_layers
            && config.env.as_ref() == Some(&texts(&own["Env"]))
            && config.cmd.as_ref() == Some(&texts(&own["Cmd"]))
            && none(&config.entrypoint)
            && none(&config.on_build)
            && config.user.as_deref().unwrap_or_default().is_empty()
            && config.volumes.as_ref().is_none_or(Vec::is_empty)
    }

    /// Digest of the configuration, by which Docker's own store knows an image.
    fn id(&self) -> String {
        hex::encode(digest(&SHA256, self.configuration.as_bytes()))
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        [&self.root.layer, &self.program.layer].into_iter()
    }

    /// Writes the archive of an image with this name.
    pub(super) fn write(&self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        let id = self.id();
        let files = self
            .layers()
            .map(|layer| format!("{}.tar", plain(&layer.digest)));
        let list = json!([{
            "Config": format!("{id}.json"),
            "RepoTags": [name],
            "Layers": files.collect::<Vec<_>>(),
        }]);
        let texts = [
            ("manifest.json".to_owned(), list.to_string()),
            (format!("{id}.json"), self.configuration.to_string()),
        ];
        for (path, text) in texts {
            let mut header = header(EntryType::Regular, 0o644, text.len() as u64);
            archive.append_data(&mut header, path, text.as_bytes())?;
        }
        let out = archive.get_mut();
        begin(&self.root.layer, out)?;
        self.root.write(out)?;
        begin(&self.program.layer, out)?;
        self.program.write(out)?;
        archive.finish()
    }
}

/// The head of a layer's file. Nothing follows the content: archives are whole blocks.
fn begin(layer: &Layer, out: &mut dyn Write) -> io::Result<()> {
    let mut header = header(EntryType::Regular, 0o644, layer.size);
    header.set_path(format!("{}.tar", plain(&layer.digest)))?;
    header.set_cksum();
    out.write_all(header.as_bytes())
}

/// The digest without its kind.
fn plain(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

fn own_config() -> Value {
    json!({
        "Env": [PATH],
        "Cmd": ["/bin/sh"],
        "WorkingDir": "/",
        "Labels": { LABEL: env!("CARGO_PKG_VERSION") },
    })
}

fn configuration(architecture: &str, layers: [&str; 2]) -> Value {
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": own_config(),
        "rootfs": { "type": "layers", "diff_ids": layers },
        "history": [
            { "created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask helper-image" },
            { "created": "1970-01-01T00:00:00Z", "created_by": "courser" },
        ],
    })
}
