//! Which proxy a URL goes through, by Go's rules (`runner-protocol.md` 1.5).

/// Proxy variables as captured once by `cli`. Upper-case names win there; `ALL_PROXY` is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// `HTTP_PROXY`.
    pub http: Option<String>,
    /// `HTTPS_PROXY`.
    pub https: Option<String>,
    /// `NO_PROXY`.
    pub no_proxy: Option<String>,
}
