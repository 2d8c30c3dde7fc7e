//! `gpus` in the syntax of `docker run --gpus`: `all`, a number, or `key=value` entries separated by commas.

use std::collections::{BTreeMap, BTreeSet};

/// Devices that a driver of the daemon is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuRequest {
    /// As it is written, for the server.
    pub text: String,
    /// Driver; empty = the daemon chooses.
    pub driver: String,
    /// How many; -1 = all, 0 = those of `device_ids`.
    pub count: i64,
    /// Which ones.
    pub device_ids: Vec<String>,
    /// What they must be able to do: all of one inner list.
    pub capabilities: Vec<Vec<String>>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// Reads a value of the key.
pub(super) fn parse(key: &'static str, text: String) -> Result<Option<GpuRequest>, String> {
    // Upstream trims it: blanks ask for nothing.
    if text.trim().is_empty() {
        return Ok(None);
    }
    request(text.trim())
        .map(Some)
        .map_err(|why| format!("{key}: {why}"))
}

fn request(text: &str) -> Result<GpuRequest, String> {
    let mut request = GpuRequest {
        text: text.to_owned(),
        capabilities: vec![vec!["gpu".to_owned()]],
        ..GpuRequest::default()
    };
    let mut seen = BTreeSet::new();
    for field in fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, value),
            None => ("count", field.as_str()),
        };
        if !seen.insert(key.to_owned()) {
            return Err(format!(
                "gpu request key '{key}' can be specified only once"
            ));
        }
        let list = || value.split(',').map(str::to_owned);
        match key {
            "driver" => request.driver = value.to_owned(),
            "count" => request.count = count(value)?,
            "device" => request.device_ids = list().collect(),
            "capabilities" => {
                request.capabilities = vec![list().chain(["gpu".to_owned()]).collect()];
            }
            "options" => {
                let options = fields(value)?;
                let option = |option: &String| match option.split_once('=') {
                    Some((name, value)) => (name.to_owned(), value.to_owned()),
                    None => (option.clone(), String::new()),
                };
                request.options = options.iter().map(option).collect();
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !seen.contains("count") && request.device_ids.is_empty() {
        request.count = 1;
    }
    Ok(request)
}

fn count(text: &str) -> Result<i64, String> {
    match text {
        "all" => Ok(-1),
        number => number.parse().map_err(|_| {
            format!("invalid count ({number}): value must be either \"all\" or an integer")
        }),
    }
}

/// A line of comma-separated values: a field in double quotes may hold commas, and `""` for a quote.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            if rest[..end].contains('"') {
                return Err(format!("bare \" in {line:?}"));
            }
            fields.push(rest[..end].to_owned());
            match rest.get(end + 1..) {
                Some(after) => rest = after,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        let mut left = quoted;
        let after = loop {
            let end = left
                .find('"')
                .ok_or_else(|| format!("missing \" in {line:?}"))?;
            field.push_str(&left[..end]);
            match left[end + 1..].strip_prefix('"') {
                Some(after) => {
                    field.push('"');
                    left = after;
                }
                None => break &left[end + 1..],
            }
        };
        fields.push(field);
        match (after.is_empty(), after.strip_prefix(',')) {
            (true, _) => return Ok(fields),
            (false, Some(after)) => rest = after,
            (false, None) => return Err(format!("text behind \" in {line:?}")),
        }
    }
}
