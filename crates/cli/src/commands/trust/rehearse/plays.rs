//! The faults that are played: certificates of a throw-away CA, before and after the cure.

use courser_net::{Part, PlayedTls};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

/// A name that is reached through the played proxy only.
pub(super) const DISTANT_HOST: &str = "gitlab.rehearsal.invalid";

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Play {
    UnknownCa,
    MissingIntermediate,
    SelfSigned,
    ExpiredCertificate,
    ExpiredCa,
    NotYetValid,
    WrongName,
    Interception,
    ClientCertificate,
    PlainHttp,
}

/// What is shown and trusted.
pub(super) struct Scene {
    /// What the client trusts.
    pub(super) trusted_pem: Option<String>,
    /// The CA's certificate.
    pub(super) authority_pem: String,
    /// Chain and key of the server.
    pub(super) tls: Option<(String, String)>,
    /// The CA of clients that the server demands.
    client_ca_pem: Option<String>,
    /// Certificate and key of the client.
    pub(super) client: Option<(String, String)>,
    /// How the server is called.
    pub(super) host: &'static str,
    /// Whether the server is an intercepting proxy.
    pub(super) through_proxy: bool,
    /// Who issued what the server would show without the proxy.
    pub(super) direct_issuer: Option<String>,
}

/// A scene with the fault, and one without.
pub(super) struct Scenes {
    pub(super) before: Scene,
    pub(super) after: Scene,
}

impl Play {
    pub(super) const ALL: [Self; 10] = [
        Self::UnknownCa,
        Self::MissingIntermediate,
        Self::SelfSigned,
        Self::ExpiredCertificate,
        Self::ExpiredCa,
        Self::NotYetValid,
        Self::WrongName,
        Self::Interception,
        Self::ClientCertificate,
        Self::PlainHttp,
    ];

    /// The section of `docs/trust-errors.md`.
    pub(super) fn help(self) -> &'static str {
        match self {
            Self::UnknownCa => "unknown-ca",
            Self::MissingIntermediate => "missing-intermediate",
            Self::SelfSigned => "self-signed-certificate",
            Self::ExpiredCertificate => "expired-certificate",
            Self::ExpiredCa => "expired-ca",
            Self::NotYetValid => "not-yet-valid",
            Self::WrongName => "wrong-name",
            Self::Interception => "interception-by-a-proxy",
            Self::ClientCertificate => "client-certificate-demanded",
            Self::PlainHttp => "plain-http-on-the-tls-port",
        }
    }

    /// How it is called here: as the section.
    pub(super) fn name(self) -> &'static str {
        self.help()
    }

    pub(super) fn story(self) -> &'static str {
        match self {
            Self::UnknownCa => "the server's CA is trusted by nobody here",
            Self::MissingIntermediate => {
                "the server leaves out the certificate between its own and the CA"
            }
            Self::SelfSigned => "the server signed its certificate itself",
            Self::ExpiredCertificate => "the server's certificate has ended",
            Self::ExpiredCa => "the CA's certificate has ended",
            Self::NotYetValid => "the server's certificate begins tomorrow",
            Self::WrongName => "the server's certificate is for another name",
            Self::Interception => "a proxy replaces the server's certificate",
            Self::ClientCertificate => "the server demands a client certificate",
            Self::PlainHttp => "the port speaks HTTP without TLS",
        }
    }

    pub(super) fn cure(self) -> &'static str {
        match self {
            Self::UnknownCa => "the CA is trusted",
            Self::MissingIntermediate => "the server sends the intermediate too",
            Self::SelfSigned => "the server's certificate is pinned",
            Self::ExpiredCertificate => "the server has a new certificate",
            Self::ExpiredCa => "the CA's successor is trusted",
            Self::NotYetValid => "the certificate is valid now",
            Self::WrongName => "the certificate has the name",
            Self::Interception => "the proxy's CA is trusted",
            Self::ClientCertificate => "a client certificate is configured",
            Self::PlainHttp => "the port speaks TLS",
        }
    }

    /// Makes its certificates.
    pub(super) fn scene(self, now: Timestamp) -> Result<Scenes, rcgen::Error> {
        let site = Site::new(now)?;
        let good = || -> Result<Scene, rcgen::Error> {
            Ok(site.scene(Some(site.leaf("localhost", VALID)?)))
        };
        let scenes = match self {
            Self::UnknownCa => Scenes {
                before: Scene {
                    trusted_pem: None,
                    ..good()?
                },
                after: good()?,
            },
            Self::MissingIntermediate => {
                let (chain, key) = site.leaf("localhost", VALID)?;
                let end = "-----END CERTIFICATE-----\n";
                let leaf = chain.split_inclusive(end).next().unwrap_or_default();
                let before = site.scene(Some((leaf.to_owned(), key.clone())));
                let after = site.scene(Some((chain, key)));
                Scenes { before, after }
            }
            Self::SelfSigned => {
                let key = KeyPair::generate()?;
                let own = site.end_entity("localhost", VALID).self_signed(&key)?;
                let scene = |trusted_pem| Scene {
                    trusted_pem,
                    ..site.scene(Some((own.pem(), key.serialize_pem())))
                };
                Scenes {
                    before: scene(None),
                    after: scene(Some(own.pem())),
                }
            }
            Self::ExpiredCertificate => Scenes {
                before: site.scene(Some(site.leaf("localhost", (-400, -3))?)),
                after: good()?,
            },
            Self::ExpiredCa => {
                let mut before = good()?;
                before.trusted_pem = Some(site.root_with((-4000, -3))?);
                Scenes {
                    before,
                    after: good()?,
                }
            }
            Self::NotYetValid => Scenes {
                before: site.scene(Some(site.leaf("localhost", (1, 400))?)),
                after: good()?,
            },
            Self::WrongName => Scenes {
                before: site.scene(Some(site.leaf("other.example", VALID)?)),
                after: good()?,
            },
            Self::Interception => {
                let proxys = Site::named("Rehearsal proxy", now)?;
                let replaced = proxys.leaf(DISTANT_HOST, VALID)?;
                let scene = |trusted: &str| Scene {
                    trusted_pem: Some(trusted.to_owned()),
                    authority_pem: site.root.pem(),
                    through_proxy: true,
                    direct_issuer: Some("CN=Rehearsal intermediate".to_owned()),
                    ..proxys.scene(Some(replaced.clone()))
                };
                Scenes {
                    before: scene(&site.root.pem()),
                    after: scene(&proxys.root.pem()),
                }
            }
            Self::ClientCertificate => {
                let key = KeyPair::generate()?;
                let mut own = CertificateParams::default();
                describe(&mut own, "Rehearsal client", VALID, now);
                own.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                let own = own.signed_by(&key, &site.root)?;
                let scene = |client| -> Result<Scene, rcgen::Error> {
                    Ok(Scene {
                        client_ca_pem: Some(site.root.pem()),
                        client,
                        ..good()?
                    })
                };
                Scenes {
                    before: scene(None)?,
                    after: scene(Some((own.pem(), key.serialize_pem())))?,
                }
            }
            Self::PlainHttp => Scenes {
                before: site.scene(None),
                after: good()?,
            },
        };
        Ok(scenes)
    }
}

impl Scene {
    /// What the played server is.
    pub(super) fn part(&self) -> Part {
        Part {
            tls: self.tls.as_ref().map(|(chain, key)| PlayedTls {
                chain_pem: chain.clone(),
                key_pem: key.clone().into(),
                client_ca_pem: self.client_ca_pem.clone(),
            }),
            intercepts: self.through_proxy,
        }
    }
}

/// First and last day of validity, counted from today.
type Days = (i64, i64);
const VALID: Days = (-1, 30);

/// A CA with an intermediate.
struct Site {
    root: CertifiedIssuer<'static, KeyPair>,
    root_params: CertificateParams,
    intermediate: CertifiedIssuer<'static, KeyPair>,
    now: Timestamp,
}

impl Site {
    fn new(now: Timestamp) -> Result<Self, rcgen::Error> {
        Self::named("Rehearsal", now)
    }

    fn named(name: &str, now: Timestamp) -> Result<Self, rcgen::Error> {
        let root_params = authority(&format!("{name} root"), now);
        let root = CertifiedIssuer::self_signed(root_params.clone(), KeyPair::generate()?)?;
        let intermediate = CertifiedIssuer::signed_by(
            authority(&format!("{name} intermediate"), now),
            KeyPair::generate()?,
            &root,
        )?;
        Ok(Self {
            root,
            root_params,
            intermediate,
            now,
        })
    }

    /// The root's certificate with other dates.
    fn root_with(&self, days: Days) -> Result<String, rcgen::Error> {
        let mut params = self.root_params.clone();
        date(&mut params, days, self.now);
        Ok(params.self_signed(self.root.key())?.pem())
    }

    fn end_entity(&self, host: &str, days: Days) -> CertificateParams {
        let mut params = CertificateParams::default();
        describe(&mut params, host, days, self.now);
        // Both are ASCII.
        params.subject_alt_names = host.try_into().map(SanType::DnsName).into_iter().collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
    }

    /// Chain and key of a server.
    fn leaf(&self, host: &str, days: Days) -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let leaf = self
            .end_entity(host, days)
            .signed_by(&key, &self.intermediate)?;
        let chain = format!("{}{}", leaf.pem(), self.intermediate.pem());
        Ok((chain, key.serialize_pem()))
    }

    fn scene(&self, tls: Option<(String, String)>) -> Scene {
        Scene {
            trusted_pem: Some(self.root.pem()),
            authority_pem: self.root.pem(),
            tls,
            client_ca_pem: None,
            client: None,
            host: "localhost",
            through_proxy: false,
            direct_issuer: None,
        }
    }
}

fn authority(name: &str, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    describe(&mut params, name, VALID, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn describe(params: &mut CertificateParams, name: &str, days: Days, now: Timestamp) {
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    date(params, days, now);
}

fn date(params: &mut CertificateParams, (first, last): Days, now: Timestamp) {
    let day = |offset: i64| {
        let day = now
            .saturating_add(SignedDuration::from_hours(24 * offset))
            .unwrap_or(now)
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date();
        rcgen::date_time_ymd(
            i32::from(day.year()),
            day.month().unsigned_abs(),
            day.day().unsigned_abs(),
        )
    };
    params.not_before = day(first);
    params.not_after = day(last);
}
