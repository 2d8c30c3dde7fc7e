//! Prints the odd chains as JSON, one a line: `cargo xtask go-verdicts --new-chains`.

fn main() {
    for chain in courser_testkit::odd_chains::all() {
        println!("{}", chain.to_json());
    }
}
