//! Compiles the C shim of the feature `ipsec-mb` and links Intel's library; does nothing without it.

fn main() {
    println!("cargo::rerun-if-changed=src/ipsec_mb/shim.c");
    #[cfg(feature = "ipsec-mb")]
    {
        let built = cc::Build::new()
            .file("src/ipsec_mb/shim.c")
            .opt_level(2)
            .warnings(true)
            .warnings_into_errors(true)
            .try_compile("ironcast_ipsec_mb");
        if let Err(error) = built {
            panic!(
                "the feature ipsec-mb needs a C compiler and Intel's IPsec-MB library 1.3 or newer \
                 (Debian and Ubuntu: libipsec-mb-dev): {error}"
            );
        }
        println!("cargo::rustc-link-lib=IPSec_MB");
    }
}
