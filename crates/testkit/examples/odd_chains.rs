//! Prints the odd chains as JSON, one a line: `cargo xtask go-verdicts --new-chains`.
#![expect(clippy::print_stdout, reason = "its output is all it is for")]

fn main() {
    for chain in courser_testkit::odd_chains::all() {
        println!("{}", chain.to_json());
    }
}
