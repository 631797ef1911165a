//! Embedding reads `web/dist` while the crate is compiled: compile again when the page was built.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=web/dist");
}
