//! Generates the gRPC code from `proto/ha/v1`.

fn main() -> std::io::Result<()> {
    let root = "../../proto";
    let files = ["cluster", "agent", "proxy", "vrrp"].map(|name| format!("{root}/ha/v1/{name}.proto"));
    // They lie outside of this package, where cargo does not look for changes by itself.
    println!("cargo::rerun-if-changed={root}");
    tonic_prost_build::configure()
        .build_transport(true)
        .btree_map(".")
        .compile_protos(&files, &[root.to_owned()])
}
