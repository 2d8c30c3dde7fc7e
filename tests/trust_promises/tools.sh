# Each tool asks each server once for something small, and the log says how it went:
# A configuration of the test machine (`cafile` of npm, `index-url` of pip) is kept out.
#   outcome: TOOL, SERVER: works | refuses (its complaint is about the certificate) | breaks (about anything else)
# The list is compared with docs/trust.md by tool_matrix.rs, which serves what is asked for here.

start=$PWD/.tools
rm -rf "$start" && mkdir "$start" && cd "$start" || exit 1
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY

try() {
  tool=$1 server=$2
  shift 2
  if timeout 60 "$@" </dev/null >answer 2>&1; then
    echo "outcome: $tool, $server: works"
  elif grep -qiE 'certificat|x509|PKIX|SELF_SIGNED|UNABLE_TO_VERIFY|issuer' answer; then
    echo "outcome: $tool, $server: refuses"
  else
    echo "outcome: $tool, $server: breaks"
    tail -n 20 answer
  fi
}

cat >Fetch.java <<'END'
public class Fetch {
    public static void main(String[] arguments) throws Exception {
        new java.net.URL(arguments[0]).openStream().readAllBytes();
    }
}
END
javac Fetch.java 2>/dev/null || exit 1
git init -q lfs

cargo_asks() {
  mkdir -p "cargo-$1/src" && touch "cargo-$1/src/lib.rs" && cat >"cargo-$1/Cargo.toml" <<END
[package]
name = "asks"
version = "1.0.0"
edition = "2021"
[dependencies]
tiny = { version = "1", registry = "asked" }
END
  env CARGO_HOME="$start/cargo-home-$1" CARGO_NET_RETRY=0 CARGO_REGISTRIES_ASKED_INDEX="sparse+$2/cargo/" \
    cargo generate-lockfile --manifest-path "cargo-$1/Cargo.toml"
}
export -f cargo_asks
export start

ask() {
  server=$1 url=$2
  host=${url#https://}
  try curl "$server" curl --silent --show-error --fail "$url/x"
  try git "$server" git ls-remote "$url/repository.git"
  try git-lfs "$server" git -C lfs -c lfs.url="$url/lfs" lfs locks
  try requests "$server" python -c 'import requests, sys; requests.get(sys.argv[1]).raise_for_status()' "$url/x"
  try pip "$server" env PIP_CONFIG_FILE=/dev/null python -m pip --disable-pip-version-check index versions tiny --retries 0 --index-url "$url/simple/"
  try node "$server" node -e 'fetch(process.argv[1]).then(answer => process.exit(answer.ok ? 0 : 1), error => { console.error(error.cause); process.exit(1) })' "$url/x"
  try npm "$server" env NPM_CONFIG_GLOBALCONFIG=/dev/null npm view tiny version --registry "$url/npm/" --fetch-retries 0 --cache "$start/npm-$server"
  try cargo "$server" bash -c 'cargo_asks "$@"' - "$server" "$url"
  try go "$server" env GOPROXY="$url/go" GOFLAGS="-mod=mod -modcacherw" GONOSUMDB='*' GOTOOLCHAIN=local GOPATH="$start/go-$server" GOCACHE="$start/go-$server/cache" go list -m -versions example.com/tiny
  try java "$server" java -cp . Fetch "$url/x"
  try wget "$server" wget --no-verbose --tries 1 --output-document /dev/null "$url/x"
  try openssl "$server" openssl s_client -connect "$host" -servername localhost -verify_hostname localhost -verify_return_error -brief
}
