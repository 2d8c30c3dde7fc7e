//! Reports of jobs in `courser exec`: dotenv for later jobs, tests and covered lines in the summary.

use crate::world::{World, run};

const PIPELINE: &str = r#"
stages: [one, two]
unit:
  stage: one
  script:
    - echo '<testsuite><testcase name="adds"/><testcase classname="math" name="divides hush-hush-value"><failure/></testcase></testsuite>' > junit.xml
    - echo '<coverage line-rate="0.5"/>' > cobertura.xml
    - echo 'PORT=8080' > facts.env
    - echo 'total 75.25% of it'
  coverage: '/total (\d+\.\d+)%/'
  artifacts:
    reports:
      junit: [junit.xml]
      dotenv: facts.env
      coverage_report: {coverage_format: cobertura, path: cobertura.xml}
broken:
  stage: one
  script: echo '<testcase name="x"><failure' > junit.xml
  artifacts: {reports: {junit: junit.xml}}
later:
  stage: two
  script: echo "port=$PORT"
"#;

#[test]
fn tests_and_covered_lines_are_summed_up_and_dotenv_reaches_later_jobs() {
    let world = World::new();
    world.repository("work", &[(".gitlab-ci.yml", PIPELINE)]);
    let variables = world.path("secrets.env");
    std::fs::write(&variables, "TOKEN=hush-hush-value\n").expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&variables, private).expect("set");
    let variables = variables.to_str().expect("text");

    let finished = run(&mut world.courser(["exec", "--variables-file", variables]));
    assert_eq!(finished.code(), 0, "{}", finished.all());
    for text in [
        "port=8080",
        "2 tests, 1 failed",
        "✗ math: divides [MASKED]",
        "50.0 % of lines covered",
        "junit report: ",
    ] {
        assert!(finished.stdout.contains(text), "{text}: {}", finished.all());
    }
    let finished = run(&mut world.courser(["exec", "--json", "--variables-file", variables]));
    let last = finished.stdout.lines().last().expect("a line");
    let end: serde_json::Value = serde_json::from_str(last).expect("JSON");
    let job = |name: &str| {
        let jobs = end["jobs"].as_array().expect("jobs");
        let job = jobs.iter().find(|job| job["name"] == name);
        job.expect("the job")["reports"].clone()
    };
    let tests = &job("unit")["tests"];
    assert_eq!((&tests["total"], &tests["failed"]), (&2.into(), &1.into()));
    assert_eq!(tests["failures"][0], "math: divides [MASKED]");
    assert_eq!(job("unit")["covered_lines"], 50.0);
    assert!(job("later")["tests"].is_null(), "{last}");
    assert!(!finished.all().contains("hush"), "{}", finished.all());
}
