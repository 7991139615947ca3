//! The project in `dbt/` is compiled in, and cargo does not know that by itself.

fn main() {
    println!("cargo::rerun-if-changed=../../dbt");
}
