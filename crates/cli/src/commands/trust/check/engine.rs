//! The Docker Engine of a runner, and what it says of registries: its trust counts there, not ours.
//!
//! With `--fix` a registry that Courser trusts, with the runner's own CA files, is made trusted by an Engine of this
//! machine: the CA that vouched for it goes into the Engine's `certs.d`. Nothing is taken from the registry itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use courser_executor_docker::engine::{Engine, EngineError};
use courser_executor_docker::images::{RegistryRefused, ask_registry};
use courser_net::legs::DockerTrust;
use courser_net::{Client, Fault, Route, Target};
use courser_trust::{Certificate, Remedy};
use url::Url;

use super::look::{Finding, LOOK_TIMEOUT};
use crate::commands::trust::trust_file::TrustFile;

/// Connects to an Engine as jobs do, and notes what it says of itself.
pub(super) async fn ask(way: &DockerTrust, finding: &mut Finding) -> Option<Engine> {
    if finding.fault.is_some() {
        return None;
    }
    let asking = async {
        let engine = Engine::connect(way).await?;
        let info = engine.info().await?.clone();
        Ok::<_, EngineError>((engine, info))
    };
    match tokio::time::timeout(LOOK_TIMEOUT, asking).await {
        Ok(Ok((engine, info))) => {
            finding.note = Some(format!(
                "Docker Engine {} on {}, API {}, {}/{}",
                info.server_version.unwrap_or_default(),
                info.name.unwrap_or_default(),
                engine.api_version(),
                info.os_type.unwrap_or_default(),
                info.architecture.unwrap_or_default(),
            ));
            Some(engine)
        }
        Ok(Err(error)) => {
            let remedy = error.remedy().map(Remedy::advice);
            finding.fault = Some(Fault::told(error.to_string(), remedy));
            None
        }
        Err(_) => {
            let text = format!("the Docker Engine at {} does not answer", way.shown());
            finding.fault = Some(Fault::told(text, None));
            None
        }
    }
}

/// A registry that an Engine pulls from.
pub(super) struct Registry<'a> {
    pub(super) image: &'a str,
    pub(super) url: &'a Url,
    pub(super) engine: &'a Engine,
    /// Has the runner's trust, to fix the Engine's with.
    pub(super) client: &'a Client,
}

impl Registry<'_> {
    /// Has the Engine ask it. `fix` is the Engine's `/etc/docker`.
    pub(super) async fn ask(&self, fix: Option<&Path>, finding: &mut Finding) {
        let Err(refused) = self.trusted_by_engine(finding).await else {
            return;
        };
        let (Some(directory), Some(missing)) = (fix, &refused.missing) else {
            finding.fault = Some(Fault::told(refused.message, refused.remedy));
            return;
        };
        let fixed = self.fix(&directory.join(missing)).await;
        let again = match &fixed {
            Ok(_) => self.trusted_by_engine(finding).await,
            Err(_) => Err(refused),
        };
        match (fixed, again) {
            (Ok(done), Ok(())) => {
                let note = finding.note.take().unwrap_or_default();
                finding.note = Some(format!("{done}; {note}"));
            }
            (Ok(done), Err(refused)) => {
                finding.note = Some(done);
                finding.fault = Some(Fault::told(refused.message, refused.remedy));
            }
            (Err(why), Err(refused)) => {
                finding.note = Some(format!("not fixed: {why}"));
                finding.fault = Some(Fault::told(refused.message, refused.remedy));
            }
            (Err(_), Ok(())) => unreachable!("asked again only after a fix"),
        }
    }

    async fn trusted_by_engine(&self, finding: &mut Finding) -> Result<(), RegistryRefused> {
        let asking = ask_registry(self.engine, self.image);
        match tokio::time::timeout(LOOK_TIMEOUT, asking).await {
            Ok(Ok(said)) => {
                let image = self.image;
                finding.note = Some(format!("trusted by the Docker Engine; {image}: {said}"));
                Ok(())
            }
            Ok(Err(refused)) => Err(refused),
            Err(_) => Err(RegistryRefused {
                message: "the Docker Engine gets no answer of it".to_owned(),
                remedy: None,
                missing: None,
            }),
        }
    }

    /// Puts the CA with which we trust the registry into the Engine's file. What was done, or why nothing was.
    async fn fix(&self, file: &Path) -> Result<String, String> {
        if !self.engine.host().starts_with("unix://") {
            return Err("the Engine is not on this machine".to_owned());
        }
        let anchor = self.our_anchor().await?;
        let subject = anchor.subject().to_string();
        let path: PathBuf = file.to_owned();
        let writing =
            tokio::task::spawn_blocking(move || TrustFile::read(&path)?.add(&path, &[anchor]));
        match writing.await {
            Ok(Ok(_)) => Ok(format!("fixed: {subject} is in {} now", file.display())),
            Ok(Err(failure)) => Err(failure.message().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn our_anchor(&self) -> Result<Arc<Certificate>, String> {
        let target = Target::from_url(self.url).ok_or("it is not called by HTTPS")?;
        let looking = self.client.inspect(&target, Route::Direct);
        let looked = tokio::time::timeout(LOOK_TIMEOUT, looking).await;
        let looked = looked.map_err(|_| "it does not answer Courser")?;
        let outcome = looked.and_then(|inspection| inspection.outcome);
        let chains = outcome.map_err(|fault| {
            format!(
                "Courser does not trust it either ({}); name its CA by --ca or in tls-ca-file",
                fault.summary()
            )
        })?;
        Ok(Arc::clone(chains.chains()[0].anchor().certificate()))
    }
}
