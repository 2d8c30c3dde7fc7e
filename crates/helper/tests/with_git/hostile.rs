//! Repositories and payloads that mean harm: nothing outside of the checkout changes, nothing runs, and the
//! log says why.

use std::fs;

use courser_helper::HelperError;
use courser_job::helper_request::{GitStrategy, Submodules};

use crate::site::Site;
use crate::world::files_below;

/// Sources of a project that has only this `.gitmodules`.
fn with_modules(site: &Site, modules: &str, path: &str) -> Result<(), String> {
    let directory = "srv/g/evil.git";
    if !site.world.path(directory).exists() {
        site.repository("evil", &[("file", "x")], &[]);
    }
    site.world
        .write(&format!("{directory}/.gitmodules"), modules);
    site.world.git(directory, &["add", ".gitmodules"]);
    let entry = format!("160000,{},{path}", site.head("one"));
    site.world
        .git(directory, &["update-index", "--add", "--cacheinfo", &entry]);
    site.world.git(directory, &["commit", "-q", "-m", "evil"]);
    let mut sources = site.with_submodules(GitStrategy::Clone, true);
    sources.remote_url = site.url("/g/evil.git");
    sources.sha = site.head("evil");
    let (result, log) = site.run(sources);
    result.map_err(|error| format!("{error}\n{}{}", log.out, log.err))
}

#[test]
fn urls_that_would_run_something_are_refused_by_name() {
    for (url, words) in [
        ("ext::sh -c touch% {trapped}", "transport 'ext' not allowed"),
        ("file:///{srv}/g/one.git", "transport 'file' not allowed"),
        ("{srv}/g/one.git", "transport 'file' not allowed"),
        ("--upload-pack=touch {trapped}", "libs"),
        ("-u./payload", "libs"),
        (
            "ssh://-oProxyCommand=touch${IFS}{trapped}/x",
            "strange hostname",
        ),
    ] {
        let site = Site::start();
        let url = url
            .replace("{trapped}", &site.world.text("trapped"))
            .replace("{srv}", &site.world.text("srv"));
        let modules = format!("[submodule \"libs\"]\n\tpath = libs\n\turl = {url}\n");
        let error = with_modules(&site, &modules, "libs").expect_err(&url);
        assert!(error.contains(words), "{url}: {error}");
        assert!(!site.world.path("trapped").exists(), "{url}");
        assert_eq!(site.read("libs/one.txt"), None, "{url}");
    }
}

#[test]
fn names_that_lead_out_of_the_repository_are_refused() {
    for name in ["../../../../outside", "../hooks", "x/../../../outside"] {
        let site = Site::start();
        let modules = format!("[submodule \"{name}\"]\n\tpath = libs\n\turl = ../one.git\n");
        let before = files_below(&site.world.path("srv"));
        let error = with_modules(&site, &modules, "libs").expect_err(name);
        assert!(error.contains("libs"), "{error}");
        assert!(!site.world.path("outside").exists());
        assert!(!site.world.path("builds/outside").exists());
        assert!(!site.world.path("builds/project/.git/hooks/HEAD").exists());
        // The commit itself is new.
        let outside = files_below(&site.world.path("srv"));
        assert!(outside.len() > before.len());
    }
}

#[test]
fn a_command_as_update_rule_is_refused() {
    let site = Site::start();
    let trapped = site.world.text("trapped");
    let modules = format!(
        "[submodule \"libs\"]\n\tpath = libs\n\turl = ../one.git\n\tupdate = !touch {trapped}\n"
    );
    with_modules(&site, &modules, "libs").expect_err("refused");
    assert!(!site.world.path("trapped").exists());
}

#[test]
fn a_link_on_the_way_to_a_submodule_is_not_followed() {
    let site = Site::start();
    fs::create_dir(site.world.path("outside")).expect("directory");
    site.repository("evil", &[("file", "x")], &[]);
    let target = site.world.text("outside");
    site.world.write("target", &target);
    let blob = site
        .world
        .git("srv/g/evil.git", &["hash-object", "-w", "../../../target"]);
    let entry = format!("120000,{blob},A");
    site.world.git(
        "srv/g/evil.git",
        &["update-index", "--add", "--cacheinfo", &entry],
    );
    let modules = "[submodule \"x\"]\n\tpath = A/x\n\turl = ../one.git\n";
    // Git does not let `A` and `A/x` be in one index; the name may lie, the path may not exist.
    with_modules(&site, modules, "B").expect_err("refused");
    assert_eq!(
        files_below(&site.world.path("outside")),
        Vec::<std::path::PathBuf>::new()
    );
}

#[test]
fn odd_refs_and_options_stay_what_they_are() {
    let site = Site::start();
    for (url, name, sha) in [
        ("--upload-pack=touch x", "main", site.head("p")),
        ("https://h/x", "--upload-pack=touch x", site.head("p")),
        ("https://h/x", "main", "--orphan=xxxxxxxx".to_owned()),
    ] {
        let mut sources = site.sources(GitStrategy::Clone);
        (sources.remote_url, sources.ref_name, sources.sha) =
            (url.to_owned(), name.to_owned(), sha);
        let (result, _) = site.run(sources);
        assert!(matches!(result, Err(HelperError::Request(_))), "{result:?}");
    }
    let mut sources = site.with_submodules(GitStrategy::Clone, false);
    sources.ref_name = "m\u{1b}[2K\nsection_start:0:x\r\u{e9}".to_owned();
    sources.submodules = sources.submodules.map(|all| Submodules {
        paths: vec!["--recursive".to_owned(), "--upload-pack=x".to_owned()],
        ..all
    });
    let (result, log) = site.run(sources);
    result.expect_err("there are no such paths");
    assert!(
        log.out
            .contains("(ref is m?[2K?section_start:0:x?\u{e9})..."),
        "{:?}",
        log.out
    );
    assert!(log.err.contains("pathspec '--recursive'"), "{}", log.err);
}
