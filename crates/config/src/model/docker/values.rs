//! Values of `[runners.docker]` with a syntax of their own. Errors are upstream's texts (`executor-docker.md` 5.4).

use std::collections::BTreeMap;
use std::net::IpAddr;

/// A device of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Path on the host.
    pub host: String,
    /// Path in the container.
    pub container: String,
    /// Letters of `r`, `w` and `m`.
    pub permissions: String,
}

/// A limit of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// Limit in force.
    pub soft: i64,
    /// Limit of the limit.
    pub hard: i64,
}

/// Isolation technology of Windows containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Nothing is asked for.
    #[default]
    Unset,
    /// `default`.
    Default,
    /// `process`.
    Process,
    /// `hyperv`.
    HyperV,
}

/// A size with an optional binary unit: `512m`, `1.5g`, `64 KiB`.
pub(super) fn memory_size(key: &'static str, text: String) -> Result<i64, String> {
    bytes(&text).map_err(|why| format!("Error parsing docker {key}: {why}"))
}

fn bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let digit_or_blank = |letter: char| letter.is_ascii_digit() || letter == '.' || letter == ' ';
    let end = text.rfind(digit_or_blank).ok_or_else(invalid)? + 1;
    let (number, unit) = text.split_at(end);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let number: f64 = number.parse().map_err(|_| invalid())?;
    if number < 0.0 || !number.is_finite() {
        return Err(invalid());
    }
    let unit = unit.to_ascii_lowercase();
    let power = match unit
        .strip_suffix("ib")
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit)
    {
        "" if unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(format!("invalid suffix: '{unit}'")),
    };
    let size = number * 1024_f64.powi(power);
    if size >= i64::MAX as f64 {
        return Err(invalid());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "within the range, and fractions of a byte are dropped"
    )]
    Ok(size as i64)
}

/// A number of CPUs in billionths: `2`, `0.5`, `1e-1`, `1/3`.
pub(super) fn cpus(_: &'static str, text: String) -> Result<i64, String> {
    billionths(&text).ok_or_else(|| format!("failed to parse {text} as a rational number"))
}

fn billionths(text: &str) -> Option<i64> {
    const BILLION: i128 = 1_000_000_000;
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |text: &str| -> Option<i128> {
        let only_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // 18 digits times a billion fit.
        (only_digits && text.len() <= 18).then(|| text.parse().ok())?
    };
    let number = if let Some((above, below)) = rest.split_once('/') {
        let below = digits(below).filter(|below| *below != 0)?;
        digits(above)? * BILLION / below
    } else {
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let number = digits(&format!("{whole}{fraction}"))?;
        let power = exponent
            .checked_add(9)?
            .checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let scale = 10_i128.checked_pow(power.unsigned_abs());
        match (scale, power >= 0) {
            (Some(scale), true) => number.checked_mul(scale)?,
            (Some(scale), false) => number / scale,
            (None, true) => return None,
            (None, false) => 0,
        }
    };
    i64::try_from(if negative { -number } else { number }).ok()
}

/// Addresses.
pub(super) fn dns_servers(_: &'static str, servers: Vec<String>) -> Result<Vec<String>, String> {
    for server in &servers {
        // An IPv6 address may name an interface.
        let (address, zone) = server.split_once('%').unwrap_or((server, "0"));
        let parsed = address.parse::<IpAddr>();
        let with_zone = address.len() < server.len();
        if !parsed.is_ok_and(|address| !with_zone || (address.is_ipv6() && !zone.is_empty())) {
            return Err(format!(
                "invalid DNS server address {server:?}: ParseAddr({server:?}): unable to parse IP"
            ));
        }
    }
    Ok(servers)
}

/// Six, eight or twenty bytes in hexadecimal, with colons, hyphens or dots.
pub(super) fn mac_address(_: &'static str, text: String) -> Result<String, String> {
    let form = |separator: char, width: usize, counts: [usize; 3]| {
        let groups: Vec<&str> = text.split(separator).collect();
        let is_group = |group: &&str| {
            group.len() == width && group.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        counts.contains(&groups.len()) && groups.iter().all(is_group)
    };
    if form(':', 2, [6, 8, 20]) || form('-', 2, [6, 8, 20]) || form('.', 4, [3, 4, 10]) {
        Ok(text)
    } else {
        Err(format!(
            "invalid MAC address {text:?}: address {text}: invalid MAC address"
        ))
    }
}

/// `host[:container[:permissions]]`.
pub(super) fn devices(_: &'static str, texts: Vec<String>) -> Result<Vec<Device>, String> {
    texts.iter().map(|text| device(text)).collect()
}

/// Lists of devices by glob.
pub(super) fn services_devices(
    key: &'static str,
    lists: BTreeMap<String, Vec<String>>,
) -> Result<BTreeMap<String, Vec<Device>>, String> {
    let parsed = lists
        .into_iter()
        .map(|(glob, texts)| Ok((glob, devices(key, texts)?)));
    parsed.collect()
}

fn device(text: &str) -> Result<Device, String> {
    let fault = |why: &str| format!("failed to parse device string {text:?}: {why}");
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, container] => (host, container, "rwm"),
        [host, container, permissions] => (host, container, permissions),
        _ => return Err(fault("too many colons")),
    };
    if host.is_empty() {
        return Err(fault("no path on the host"));
    }
    Ok(Device {
        host: host.to_owned(),
        container: container.to_owned(),
        permissions: permissions.to_owned(),
    })
}

/// `soft` or `soft:hard`, by name.
pub(super) fn ulimits(
    _: &'static str,
    texts: BTreeMap<String, String>,
) -> Result<BTreeMap<String, Ulimit>, String> {
    let parsed = texts.into_iter().map(|(name, text)| {
        let (soft, hard) = text.split_once(':').unwrap_or((&text, &text));
        match (soft.parse(), hard.parse()) {
            (Ok(soft), Ok(hard)) => Ok((name, Ulimit { soft, hard })),
            _ => Err(format!(
                "invalid ulimit {name:?}: {text:?} is neither an integer nor two with a colon between them"
            )),
        }
    });
    parsed.collect()
}

/// Only options that take nothing from the runner's own bookkeeping.
pub(super) fn log_options(
    _: &'static str,
    options: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    const ALLOWED: [&str; 2] = ["env", "labels"];
    let others: Vec<String> = options
        .keys()
        .filter(|name| !ALLOWED.contains(&name.as_str()))
        .map(|name| format!("{name:?}"))
        .collect();
    if others.is_empty() {
        Ok(options)
    } else {
        Err(format!(
            "invalid log options: only [\"env\" \"labels\"] are allowed, but found: [{}]",
            others.join(" ")
        ))
    }
}

/// Names of policies.
pub(super) fn pull_policies(
    key: &'static str,
    policies: Vec<String>,
) -> Result<Vec<String>, String> {
    let known = |policy: &&String| matches!(policy.as_str(), "always" | "if-not-present" | "never");
    match policies.iter().find(|policy| !known(policy)) {
        Some(unknown) => Err(format!("unsupported {key} config: {unknown:?}")),
        None => Ok(policies),
    }
}

/// A name of a technology.
pub(super) fn isolation(_: &'static str, text: String) -> Result<Isolation, String> {
    match text.to_ascii_lowercase().as_str() {
        "" => Ok(Isolation::Unset),
        "default" => Ok(Isolation::Default),
        "process" => Ok(Isolation::Process),
        "hyperv" => Ok(Isolation::HyperV),
        _ => Err(format!(
            "the isolation value {text:?} is not valid. the valid values are: 'process', 'hyperv', \
             'default' and an empty string"
        )),
    }
}
