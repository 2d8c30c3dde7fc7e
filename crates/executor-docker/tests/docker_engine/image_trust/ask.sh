# Each tool asks each server once for something small, and the log says how it went:
#   outcome: TOOL, SERVER: works | refuses (its complaint is about the certificate) | breaks (about anything else)
# The list is compared with docs/trust.md by matrix.rs.

try() {
  tool=$1 server=$2
  shift 2
  if answer=$(timeout 60 "$@" </dev/null 2>&1); then
    echo "outcome: $tool, $server: works"
  elif echo "$answer" | grep -qiE 'certificat|x509|PKIX|SELF_SIGNED|UNABLE_TO_VERIFY|issuer|trustAnchors'; then
    echo "outcome: $tool, $server: refuses"
  else
    echo "outcome: $tool, $server: breaks"
    echo "$answer" | tail -n 20
  fi
}

ask() {
  server=$1 url=$2
  try curl "$server" curl --silent --show-error --fail "$url/x"
  try wget "$server" wget --no-verbose --tries 1 --output-document /dev/null "$url/x"
  try git "$server" git ls-remote "$url/repository.git"
  try openssl "$server" openssl s_client -connect "${url#https://}" -verify_ip 127.0.0.1 -verify_return_error -brief
  try python "$server" python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1]).read()' "$url/x"
  try requests "$server" env PYTHONPATH=/ask/python python3 -B -c 'import requests, sys; requests.get(sys.argv[1]).raise_for_status()' "$url/x"
  try node "$server" node -e 'fetch(process.argv[1]).then(answer => process.exit(answer.ok ? 0 : 1), error => { console.error(error.cause); process.exit(1) })' "$url/x"
  try java "$server" java -XX:TieredStopAtLevel=1 -cp /ask Fetch "$url/x"
  try go "$server" /ask/ask "$url/x"
}

ask private "$PRIVATE"
ask public "$PUBLIC"
