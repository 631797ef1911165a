# What deploy/run and tests/run share: saying what happens, installing what is missing, building.
# Sourced, from the top of the checkout; does nothing by itself. Installs only by the means of the
# distribution (apt) and of the languages' registries (cargo, npm).

target=${CARGO_TARGET_DIR:-target}
page=controlplane/signaling/web
client_node=controlplane/client-node
export DEBIAN_FRONTEND=noninteractive

if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi

say() { printf '%s\n' "$*"; }
fail() { printf '\n%s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# step "what" command...: says what takes long and how long it took; its output only if it fails.
step() {
    local what=$1 since=$SECONDS log outcome=0
    shift
    log=$(mktemp)
    printf '  %s ... ' "$what"
    "$@" </dev/null >"$log" 2>&1 || outcome=$?
    if [ "$outcome" != 0 ]; then
        printf 'failed\n\n'
        tail -n 40 "$log" >&2
        rm -f "$log"
        return "$outcome"
    fi
    rm -f "$log"
    printf '%s s\n' "$((SECONDS - since))"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; return; fi
    have sudo || fail "Installing packages needs root: run this as root, or install sudo."
    sudo --preserve-env=DEBIAN_FRONTEND "$@"
}

apt_lists_fresh=no
# apt_install package...: nothing when all are there.
apt_install() {
    have apt-get || fail "Please install by hand: $* (apt-get is not here; Debian and Ubuntu have it)."
    if [ "$(id -u)" != 0 ] && have sudo && ! sudo -n true 2>/dev/null; then
        say "  Installing $* needs your password."
        sudo -v
    fi
    if [ "$apt_lists_fresh" = no ]; then
        step "reading the lists of packages" as_root apt-get update || return
        apt_lists_fresh=yes
    fi
    step "installing $*" as_root apt-get install -y --no-install-recommends "$@"
}

package_is_there() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# need_packages package...: installs those of them that are missing.
need_packages() {
    local missing=() name
    have dpkg-query || return 0
    for name in "$@"; do package_is_there "$name" || missing+=("$name"); done
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

# at_least 1.95.0 1.95: the first is not older than the second.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

candidate() { apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \(.*:\)\{0,1\}\([0-9][0-9.]*\).*/\2/p'; }

rust_wanted() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }

rust_is_new_enough() {
    have cargo && at_least "$(rustc --version 2>/dev/null | cut -d' ' -f2)" "$(rust_wanted)"
}

need_rust() {
    [ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"
    rust_is_new_enough && return
    if ! have rustup && [ "$apt_lists_fresh" = no ] && have apt-get; then
        step "reading the lists of packages" as_root apt-get update
        apt_lists_fresh=yes
    fi
    if ! have rustup && [ -n "$(candidate rustup)" ]; then apt_install rustup; fi
    if have rustup; then
        step "installing Rust" rustup toolchain install stable --profile minimal \
            --component rustfmt --component clippy
        step "choosing Rust" rustup default stable
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    rust_is_new_enough || fail "Rust $(rust_wanted) or newer is needed, and this machine has $(
        rustc --version 2>/dev/null || echo none).
Debian 13 and Ubuntu 24.04 have the package rustup, which brings it. On an older distribution
install rustup as its authors describe, then run this again."
}

node_is_new_enough() { have node && have npm && at_least "$(node --version | tr -d v)" 20.19; }

need_node() {
    node_is_new_enough && return
    if [ "$apt_lists_fresh" = no ] && have apt-get; then
        step "reading the lists of packages" as_root apt-get update
        apt_lists_fresh=yes
    fi
    if at_least "$(candidate nodejs)" 20.19; then apt_install nodejs npm; fi
    node_is_new_enough || fail "Node.js 20.19 or newer is needed to build the page, and this machine has $(
        node --version 2>/dev/null || echo none).
Debian 13 and Ubuntu 25.04 have it. On an older distribution install a newer Node.js with npm by
hand, then run this again."
}

# need_modules folder: what its lock file says, installed once for each lock file.
need_modules() {
    local stamp=$1/node_modules/.lock-stamp now
    now=$(sha256sum <"$1/package-lock.json")
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ] && return
    step "installing the modules of $1" npm ci --prefix "$1" --no-audit --no-fund || return
    printf '%s\n' "$now" >"$stamp"
}

# need_venv folder requirements.txt: a Python environment with those versions, made once for each such file.
need_venv() {
    local stamp=$1/.stamp now
    now=$(sha256sum <"$2")
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ] && return
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
    rm -rf "$1"
    step "making a Python environment" python3 -m venv "$1" || return
    step "installing $2" "$1/bin/pip" install --disable-pip-version-check --no-input -r "$2" || return
    printf '%s\n' "$now" >"$stamp"
}

page_inputs() {
    find "$page" \( -name node_modules -o -name dist -o -name test \) -prune -o -type f -print0 |
        sort -z | xargs -0 sha256sum | sha256sum
}

build_page() {
    local stamp=$page/node_modules/.page-stamp now
    now=$(page_inputs)
    [ -f "$page/dist/index.html" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$now" ] && return
    need_node
    need_modules "$page" || return
    step "building the page" npm run --prefix "$page" build || return
    printf '%s\n' "$now" >"$stamp"
}

build_client_node() {
    need_node
    need_modules "$client_node" || return
    step "building the client for Node" npm run --prefix "$client_node" build
}

# By rustc itself, whatever else looks at the tests.
build_release() {
    env -u RUSTC_WORKSPACE_WRAPPER cargo build --release --locked -p ironcast-dataplane -p ironcast-controlplane \
        -p ironcast-signaling -p ironcast
}

need_build_tools() { need_packages build-essential pkg-config ca-certificates; }
