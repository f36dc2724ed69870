#!/usr/bin/env bash
#
# The certificates of securedelivery: the authority's (CA), the server's, the clients', the proxies', and the revocation
# list.
# `gen_certs.sh --help` says how to use it, certs/README.md what the files are and why.
#
# How it stays whole: a run works under a lock, in the folder DIR/.new. When all is made, .new is renamed to .commit;
# that one rename is the decision. What stands in .commit is then moved to its place. A run that was killed before the
# rename has changed nothing; one that was killed after it is finished by the next run, under the same lock.

set -euo pipefail
shopt -s inherit_errexit nullglob 2>/dev/null || true
shopt -u nocasematch
umask 077
export LC_ALL=C TZ=UTC # [a-z] means 26 letters, and dates are those that stand in certificates
export SSL_CERT_FILE=/dev/null SSL_CERT_DIR=/dev/null # what this machine trusts has no part in it, and is slow to read
unset CDPATH GLOBIGNORE POSIXLY_CORRECT

readonly CA_DAYS=3650
readonly LEAF_DAYS=89 # sslyze's "modern" profile refuses more than 90
readonly LIST_DAYS=30
readonly MAX_DAYS=825 # far less than the last third of the CA's life, in which it is renewed: no leaf outlives it
readonly LOCK_SECONDS=60
readonly MAX_CSR_BYTES=65536
readonly DEFAULT_TRUST_DOMAIN=securedelivery.local
readonly REASONS='unspecified keyCompromise affiliationChanged superseded cessationOfOperation'

# ---------------------------------------------------------------------------------------------------- talking to people

say() { printf '%s\n' "$*"; }

# What the tools say about a disk or a folder stays out; the one line of die says what to do.
quietly() { "$@" 2>/dev/null; }
append() { { printf '%s\n' "$1" >>"$2"; } 2>/dev/null || die "cannot write $2: look at the space on the disk, and run again"; } # line file

# One line, whatever is quoted in it; it must say what to do.
die() {
  printf 'error: %s\n' "${*//$'\n'/ }" >&2
  exit 1
}

usage() {
  printf 'error: %s (see gen_certs.sh --help)\n' "${*//$'\n'/ }" >&2
  exit 2
}

help() {
  cat <<'END'
Usage: gen_certs.sh [COMMAND] [OPTION]...

Makes and keeps the certificates of securedelivery. Without a command: CA, server certificate and revocation list; run
again (from cron, say), it renews those in the last third of their life and leaves everything else as it is.

Commands:
  server                 a certificate and key for the server
  client NAME            a certificate and key for a customer; with --csr the key stays with the customer
  proxy NAME             a certificate and key for a TLS-terminating proxy
  renew server|NAME      a new certificate in place of the present one, which stays valid until it ends
  revoke NAME|server     revoke every certificate of that name that is still valid, and renew the list
  crl                    make the revocation list anew
  p12 NAME               certificate, key and CA in one file with a password, for browsers
  list                   a table of all certificates
  verify                 check every file; exit code 1 if something is bad

Options, before or after the command:
  --dir DIR              the folder (default: certs/ beside this script)
  --dns NAME, --ip ADDR  what the server is reached by; repeatable; the default is what its certificate has now, at first
                         localhost, this host's name, 127.0.0.1 and ::1
  --trust-domain NAME    for spiffe://NAME/...; chosen once for a folder (default: securedelivery.local)
  --key ecdsa|rsa        the kind of a new key: P-256 (default) or RSA with 3072 bits
  --days N               how long a new certificate lives (default: 89), or with `crl` the list (default: 30)
  --csr FILE             issue for the public key of this certificate request (client, proxy, renew NAME)
  --reason R             unspecified, keyCompromise, affiliationChanged, superseded or cessationOfOperation
  --force                replace what is there
  --help                 this text

Examples:
  gen_certs.sh --dns shop.example.org --ip 192.0.2.7    begin: CA, server, list
  gen_certs.sh client alice                             clients/alice.crt and clients/alice.key
  gen_certs.sh client bob --csr bob.csr                 clients/bob.crt; Bob keeps his key
  gen_certs.sh renew alice                              a new pair for Alice
  gen_certs.sh revoke alice --reason keyCompromise      Alice is out as soon as the server has read crl.pem
  gen_certs.sh p12 bob < password.txt                   the password from the first line of stdin, if it is no terminal
  gen_certs.sh --dir /srv/certs verify                  check another folder

Exit codes: 0 done, 1 refused or failed (nothing was changed), 2 wrong usage.
END
}

# ----------------------------------------------------------------------------------------------------- the command line

command='' name='' folder='' trust_domain='' key_kind='' days='' reason=unspecified csr='' force=''
alt_names=() # as OpenSSL writes them: DNS:..., IP:...
given=()     # options that were given, to refuse those that the command does not have

# The options of a command besides --dir; one that would do nothing is a mistake of who gave it.
options_of() {
  case $1 in
    '' | server) echo --dns --ip --trust-domain --key --days --force ;;
    client | proxy) echo --csr --trust-domain --key --days --force ;;
    renew) echo --csr --dns --ip --trust-domain --key --days --force ;;
    revoke) echo --reason ;;
    crl) echo --days ;;
    p12) echo --force ;;
    list | verify) echo ;;
    *) return 1 ;;
  esac
}

parse() {
  local words=()
  while (($#)); do
    case $1 in
      -h | --help)
        help
        exit 0
        ;;
      --force)
        force=yes given+=("$1")
        shift
        ;;
      --dir | --dns | --ip | --trust-domain | --key | --days | --reason | --csr)
        (($# > 1)) || usage "$1 needs a value"
        option "$1" "$2"
        shift 2
        ;;
      --dir=* | --dns=* | --ip=* | --trust-domain=* | --key=* | --days=* | --reason=* | --csr=*)
        option "${1%%=*}" "${1#*=}"
        shift
        ;;
      --)
        shift
        words+=("$@")
        break
        ;;
      -*) usage "unknown option ${1@Q}" ;;
      *)
        words+=("$1")
        shift
        ;;
    esac
  done
  command=${words[0]-}
  ((${#words[@]} == 0)) || [[ -n $command ]] || usage "the command is empty"
  check_words "${words[@]:1}"
}

# Checks one option's value, where nothing has been touched yet.
option() {
  local value
  given+=("$1")
  case $1 in
    --dir)
      [[ -n $2 ]] || usage "--dir needs a folder"
      folder=$2
      ;;
    --dns)
      is_dns_name "$2" || usage "--dns ${2@Q} is not a host name: letters, digits, - and dots, one name an option"
      add_alt_name "DNS:${2,,}"
      ;;
    --ip)
      value=$(canonical_ip "$2") || usage "--ip ${2@Q} is not an IPv4 or IPv6 address; one address an option"
      add_alt_name "IP:$value"
      ;;
    --trust-domain)
      is_trust_domain "$2" || usage "--trust-domain ${2@Q} is not 1 to 255 of a-z 0-9 . - _"
      trust_domain=$2
      ;;
    --key)
      [[ $2 == ecdsa || $2 == rsa ]] || usage "--key ${2@Q} is neither ecdsa nor rsa"
      key_kind=$2
      ;;
    --days)
      [[ $2 =~ ^[1-9][0-9]{0,2}$ && $2 -le $MAX_DAYS ]] || usage "--days ${2@Q} is not a number from 1 to $MAX_DAYS"
      days=$2
      ;;
    --reason)
      [[ -n $2 && $2 != *' '* && " $REASONS " == *" $2 "* ]] || usage "--reason ${2@Q} is none of: $REASONS"
      reason=$2
      ;;
    --csr)
      [[ -n $2 ]] || usage "--csr needs a file"
      csr=$2
      ;;
  esac
}

# Does the command exist, has it the name it needs, and do the options belong to it?
check_words() {
  local allowed wanted=0 one
  allowed=$(options_of "$command") || usage "unknown command ${command@Q}"
  case $command in client | proxy | renew | revoke | p12) wanted=1 ;; esac
  (($# >= wanted)) || usage "$command needs a name"
  (($# <= wanted)) || usage "too many words after $command: quote what belongs together"
  for one in "${given[@]}"; do
    [[ $one == --dir || " $allowed " == *" $one "* ]] ||
      usage "$one does not go with ${command:-a run without a command}"
  done
  [[ -z $csr || -z $key_kind ]] || usage "--key does not go with --csr: the request brings its key"
  ((wanted)) || return 0
  name=$1
  [[ $name == server && ($command == renew || $command == revoke) ]] && return
  is_name "$name" || usage "bad name ${name@Q}: take 3 to 32 of a-z 0-9 . _ -, starting with a letter"
  [[ $name != server ]] || usage "the name 'server' is taken by the server itself: choose another"
}

is_name() { [[ $1 =~ ^[a-z][a-z0-9._-]{2,31}$ ]]; }

is_trust_domain() { [[ $1 =~ ^[a-z0-9._-]{1,255}$ ]]; }

# No wildcards, no underscores, no digits-only last label (that would be an address).
is_dns_name() {
  local label='[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
  ((${#1} <= 253)) && [[ $1 =~ ^($label\.)*$label$ ]] && [[ ! ${1##*.} =~ ^[0-9]+$ ]]
}

# Prints the address in one fixed form, so that ::1 and 0:0:0:0:0:0:0:1 are the same one; fails if it is none.
canonical_ip() {
  local parts part head='' tail='' result='' i
  if [[ $1 =~ ^[0-9]+(\.[0-9]+){3}$ ]]; then
    IFS=. read -ra parts <<<"$1"
    for part in "${parts[@]}"; do [[ $part =~ ^(0|[1-9][0-9]{0,2})$ ]] && ((part <= 255)) || return 1; done
    printf '%s' "$1"
    return
  fi
  [[ $1 =~ ^[0-9A-Fa-f:]{2,39}$ ]] || return 1
  if [[ $1 == *::* ]]; then
    head=${1%%::*} tail=${1#*::}
    [[ $tail != *::* && $head != :* && $tail != :* && $tail != *: ]] || return 1
    IFS=: read -ra parts <<<"$head:$tail"
    local present=0
    for part in "${parts[@]}"; do [[ -z $part ]] || present=$((present + 1)); done
    ((present <= 7)) || return 1
    for ((i = present; i < 8; i++)); do head+=${head:+:}0; done
    head+=${tail:+:$tail}
  else
    head=$1
    [[ $head != *: ]] || return 1
  fi
  IFS=: read -ra parts <<<"$head"
  ((${#parts[@]} == 8)) || return 1
  for part in "${parts[@]}"; do
    [[ $part =~ ^[0-9A-Fa-f]{1,4}$ ]] || return 1
    printf -v part %X "0x$part"
    result+=:$part
  done
  printf '%s' "${result#:}"
}

add_alt_name() {
  local one
  for one in "${alt_names[@]}"; do [[ $one != "$1" ]] || return 0; done
  alt_names+=("$1")
}

# -------------------------------------------------------------------------------------------------------------- openssl

# openssl prints a stack of errors; one line of it is passed on. It never gets to ask: keys have no password here.
ssl() {
  local said
  if ! { said=$(openssl "$@" 2>&1 >&3 3>&-); } 3>&1; then
    said=${said%%$'\n'*}
    die "openssl $1 failed (${said:-no reason given}): look at that file and the space on the disk, and run again"
  fi
}

check_bash() {
  ((BASH_VERSINFO[0] > 4 || (BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] >= 4))) ||
    die "this needs bash 4.4 or later, not $BASH_VERSION: install it and run the script with it"
}

# A closed standard stream would be the number of the next file opened, and what is said would go into that.
open_streams() {
  [[ -e /dev/fd/0 ]] || exec </dev/null
  [[ -e /dev/fd/1 ]] || exec >/dev/null
  [[ -e /dev/fd/2 ]] || exec 2>/dev/null
}

check_tools() {
  local version
  version=$(openssl version 2>/dev/null) || die "openssl is missing: install OpenSSL 3 (Debian: apt install openssl)"
  [[ $version =~ ^OpenSSL\ ([0-9]+)\. && ${BASH_REMATCH[1]} -ge 3 ]] ||
    die "this needs OpenSSL 3, not ${version:-an unknown one}: install it, or put it first on PATH"
  [[ -r $OPENSSL_CONF ]] || die "$OPENSSL_CONF is missing or unreadable: put it back from the repository"
  command -v flock >/dev/null || die "flock is missing: install util-linux"
}

cert_begin='' cert_end='' cert_serial='' cert_names='' # as 2027-02-19 08:19:38Z, in hex, and as DNS:a,IP:b

# What there is to know about a certificate, with one call of openssl.
read_certificate() {
  local text line
  text=$(ssl x509 -noout -dateopt iso_8601 -startdate -enddate -serial -ext subjectAltName -in "$1") || exit
  cert_names=''
  while IFS= read -r line; do
    case $line in
      notBefore=*) cert_begin=${line#*=} ;;
      notAfter=*) cert_end=${line#*=} ;;
      serial=*) cert_serial=${line#*=} ;;
      ' '*)
        line=${line//IP Address:/IP:}
        cert_names=${line//[[:space:]]/}
        ;;
    esac
  done <<<"$text"
}

ends_within() { ! openssl x509 -noout -in "$1" -checkend "$2" >/dev/null 2>&1; } # seconds
key_of_certificate() { ssl x509 -noout -pubkey -in "$1"; }
key_of_key() { ssl pkey -passin pass: -pubout -in "$1"; }

# In a condition bash does not stop at a failed command; hence `|| exit`, after the one line that die has printed.
same_key() {
  local certified held
  certified=$(key_of_certificate "$1") || exit
  held=$(key_of_key "$2") || exit
  [[ $certified == "$held" ]]
}

# Seconds since 1970 of "2027-02-19 08:19:38Z", by arithmetic: `date -d` is not the same everywhere.
epoch() {
  [[ $1 =~ ^([0-9]{4})-([0-9]{2})-([0-9]{2})\ ([0-9]{2}):([0-9]{2}):([0-9]{2})Z$ ]] ||
    die "openssl gave an odd date: ${1@Q}"
  local year=$((10#${BASH_REMATCH[1]})) month=$((10#${BASH_REMATCH[2]})) day=$((10#${BASH_REMATCH[3]}))
  local seconds=$((10#${BASH_REMATCH[4]} * 3600 + 10#${BASH_REMATCH[5]} * 60 + 10#${BASH_REMATCH[6]}))
  # The year begins in March, so that the leap day is its last.
  ((month > 2)) || year=$((year - 1)) month=$((month + 12))
  local days_since=$((365 * year + year / 4 - year / 100 + year / 400 + (153 * (month - 3) + 2) / 5 + day - 719469))
  printf '%d' $((days_since * 86400 + seconds))
}

now() { printf '%(%s)T' -1; }

# Are the last third or less of the time between the two dates left?
is_last_third() { # begin end
  local begin end
  begin=$(epoch "$1") || exit
  end=$(epoch "$2") || exit
  ((end - $(now) < (end - begin) / 3))
}

list_begin='' list_end=''

read_list() {
  local text
  text=$(ssl crl -noout -dateopt iso_8601 -lastupdate -nextupdate -in crl.pem) || exit
  list_begin=${text%%$'\n'*} list_end=${text##*$'\n'}
  list_begin=${list_begin#*=} list_end=${list_end#*=}
}

list_is_signed() {
  local said
  said=$(openssl crl -in crl.pem -noout -verify -CAfile ca.crt -no-CApath -no-CAstore 2>&1) || return 1
  [[ $said == *'verify OK'* ]]
}

# The chain, without anything that the machine trusts besides.
chain_is_good() { openssl verify -x509_strict -no-CApath -no-CAstore -CAfile "$(newest ca.crt)" "$@" 2>&1; }

# ---------------------------------------------------------------------------------------- the folder, and staying whole

self='' staged='' lock=''

# Everything below works in the folder itself with relative paths: no path of the operator's gets into a configuration.
enter_folder() {
  local here script
  script=$(readlink -f -- "${BASH_SOURCE[0]}")
  here=$(dirname -- "$script")
  export OPENSSL_CONF=$here/certs/openssl.cnf SUBJECT_ALT_NAME=''
  check_tools
  self=$0
  [[ -z $folder ]] || printf -v self '%s --dir %q' "$0" "$folder"
  [[ -n $folder ]] || folder=$here/certs
  [[ $folder == /* ]] || folder=$PWD/$folder
  [[ -z $csr || $csr == /* ]] || csr=$PWD/$csr
  if [[ ! -e $folder && -z $command ]]; then
    mkdir -p -- "$folder" 2>/dev/null ||
      die "cannot make the folder ${folder@Q}: choose another with --dir, or run as its owner"
  fi
  [[ -d $folder ]] || die "there is no folder ${folder@Q}: begin with '$self', or name the right one with --dir"
  cd -- "$folder" 2>/dev/null || die "cannot enter ${folder@Q}: run as its owner"
  [[ -z $command || -e ca.crt || -e ca.key || -d .commit ]] ||
    die "there is no CA in ${folder@Q}: begin with '$self' (without a command), or name the right folder with --dir"
  if [[ -w . ]]; then
    [[ $command == p12 ]] || take_lock # which asks for the password first
  elif [[ $command != list && $command != verify ]]; then
    die "cannot write in ${folder@Q}: run as its owner, or choose another with --dir"
  fi
}

# The kernel gives the lock back when its holder dies, however that was, so a stale one cannot block.
take_lock() {
  { exec {lock}>>.lock; } 2>/dev/null || die "cannot open ${folder@Q}/.lock: run as its owner"
  if ! flock -n "$lock"; then
    say "waiting for another run in $folder to end"
    flock -w "$LOCK_SECONDS" "$lock" ||
      die "another run has held ${folder@Q}/.lock for $LOCK_SECONDS seconds: let it end (fuser -v shows it), then run again"
  fi
  trap '[[ -z $staged ]] || rm -rf .new' EXIT
  trap 'die "interrupted: nothing was changed; run again"' INT TERM HUP
  if [[ -d .commit ]]; then
    say "finishing what an interrupted run had decided"
    publish
  fi
  [[ ! -e .new ]] || rm -rf .new || die "cannot remove ${folder@Q}/.new: run as the owner of the folder"
}

# The staged file if there is one, else the one in place.
newest() { if [[ -e .new/$1 ]]; then printf '.new/%s' "$1"; else printf '%s' "$1"; fi; }

# Begins a change. .new/work is for what must not be published.
stage() {
  [[ -z $staged ]] || return 0
  local part
  for part in clients proxies; do
    [[ ! -e $part || -w $part ]] || die "cannot write in ${folder@Q}/$part: run as its owner"
  done
  staged=yes
  quietly mkdir .new .new/work .new/clients .new/proxies ||
    die "cannot write in ${folder@Q}: look at the space on the disk, and run again"
}

stage_index() {
  stage
  [[ ! -e .new/index.txt ]] || return 0
  quietly cp index.txt crlnumber .new/ || die "cannot copy the index: look at the space on the disk, and run again"
}

# A file that goes away with the change.
stage_removal() { append "$1" .new/removals; }

# One rename decides; before it nothing has happened, after it all will.
commit() {
  [[ -n $staged ]] || return 0
  local files
  rm -rf .new/work .new/*.old .new/*.attr
  files=(.new/* .new/clients/* .new/proxies/*)
  local file
  for file in "${files[@]}"; do
    case $file in
      *.key | *.p12 | */index.txt | */crlnumber | */removals) ;;
      .new/clients | .new/proxies) ;;
      *) quietly chmod 0644 "$file" || die "cannot set the mode of ${file@Q}: run as the owner of the folder" ;;
    esac
  done
  [[ ! -e .new/ca.key ]] || chmod 0400 .new/ca.key
  quietly sync -- "${files[@]}" || die "cannot write to the disk: look at the space on it, and run again"
  trap '' INT TERM HUP
  quietly mv -T .new .commit || die "cannot write in ${folder@Q}: run as its owner"
  staged=''
  publish
  trap - INT TERM HUP
}

# Can be repeated after any interruption: what was moved is no longer there to move. A pair goes with one call of mv.
publish() {
  local part files one
  local failed="cannot move the new files into place: mend the cause and run again, they are kept in ${folder@Q}/.commit"
  if [[ -e .commit/removals ]]; then
    while IFS= read -r one; do quietly rm -f -- "$one" || die "$failed"; done <.commit/removals
  fi
  for part in clients proxies .; do
    files=()
    for one in .commit/"$part"/*; do [[ ! -f $one || $one == */removals ]] || files+=("$one"); done
    ((${#files[@]})) || continue
    quietly mkdir -p "$part" || die "$failed"
    quietly mv -f -- "${files[@]}" "$part/" || die "$failed"
  done
  sync -- . clients proxies 2>/dev/null || true # a file system that cannot sync folders is no reason to fail
  rm -rf .commit
}

# -------------------------------------------------------------------------------------------------- names and the index

# server -> server; client alice -> clients/alice; proxy edge -> proxies/edge
base_of() {
  case $1 in
    server) printf server ;;
    client) printf 'clients/%s' "$2" ;;
    proxy) printf 'proxies/%s' "$2" ;;
  esac
}

# A space cannot be in a name, so the index tells the three kinds apart.
subject_of() {
  case $1 in
    server) printf '/CN=securedelivery server' ;;
    client) printf '/CN=%s' "$2" ;;
    proxy) printf '/CN=proxy %s' "$2" ;;
  esac
}

uri_of() {
  case $1 in
    client) printf 'URI:spiffe://%s/account/%s' "$trust_domain" "$2" ;;
    proxy) printf 'URI:spiffe://%s/proxy/%s' "$trust_domain" "$2" ;;
  esac
}

# What calls the certificate in a command: "server" or "client alice".
words_of() { if [[ $1 == server ]]; then printf server; else printf '%s %s' "$1" "$2"; fi; }

row_state=() row_end=() row_serial=() row_subject=() # of the index, in the order of issue; the ends as 20270219081938Z
declare -A last_row=()                               # subject -> its newest row

# OpenSSL's index: state, end, revoked, serial, file, subject with tabs between; read would fold an empty field away.
read_index() {
  local line fields
  row_state=() row_end=() row_serial=() row_subject=() last_row=()
  while IFS= read -r line; do
    IFS='|' read -ra fields <<<"${line//$'\t'/|}"
    ((${#fields[@]} == 6)) || die "index.txt has a line that OpenSSL does not write: restore it from a backup"
    last_row[${fields[5]}]=${#row_state[@]}
    ((${#fields[1]} == 15)) || fields[1]=20${fields[1]}
    row_state+=("${fields[0]}") row_end+=("${fields[1]}") row_serial+=("${fields[3]}") row_subject+=("${fields[5]}")
  done <index.txt
}

# 2027-02-19 08:19:38Z -> 270219081938Z, from 2050 on with the century
index_date() {
  local text=${1//[-: ]/}
  ((${text:0:4} >= 2050)) || text=${text#20}
  printf '%s' "$text"
}

# Which kind of certificate the name has had; names are shared by no two kinds.
kind_of() {
  local kind
  for kind in server client proxy; do
    [[ $kind == server && $1 != server ]] || [[ -z ${last_row[$(subject_of "$kind" "$1")]-} ]] || {
      printf '%s' "$kind"
      return
    }
  done
  die "no certificate was ever issued to ${1@Q}: '$self list' shows the names"
}

# revoked, expired, replaced or valid
state_of_row() {
  if [[ ${row_state[$1]} == R ]]; then
    printf revoked
  elif [[ ${row_end[$1]} < $(printf '%(%Y%m%d%H%M%SZ)T' -1) ]]; then
    printf expired
  elif [[ ${last_row[${row_subject[$1]}]} != "$1" ]]; then
    printf replaced
  else
    printf valid
  fi
}

is_revoked() { # serial
  local row
  for row in "${!row_serial[@]}"; do
    [[ ${row_serial[row]} != "$1" || ${row_state[row]} != R ]] || return 0
  done
  return 1
}

# -------------------------------------------------------------------------------------------------------- the authority

require_files() {
  local file
  for file; do
    [[ -e $file ]] ||
      die "$file is missing in ${folder@Q}: restore it from a backup, or move the folder away to begin anew"
    [[ -r $file ]] || die "cannot read $file in ${folder@Q}: run as its owner"
  done
}

# Everything that a command needs before it may issue; what is wrong is said before anything is begun.
require_ca() {
  require_files ca.crt ca.key index.txt crlnumber names.txt
  same_key ca.crt ca.key ||
    die "ca.key does not belong to ca.crt: restore the pair from a backup, or move the folder away to begin anew"
  settle_trust_domain
  read_index
  ends_within ca.crt 0 || return 0
  read_certificate ca.crt
  [[ -z $command && -n $force ]] ||
    die "the CA expired at $cert_end: '$self --force' renews it with the same key; then give the new ca.crt to every client"
}

# The first run chooses; a later one may repeat the choice but not change it: the certificates out there carry it.
settle_trust_domain() {
  local chosen=''
  [[ ! -e trust-domain ]] || IFS= read -r chosen <trust-domain || true
  if [[ -z $chosen ]]; then
    [[ -n $trust_domain ]] ||
      die "the file trust-domain is missing in ${folder@Q}: '$self --trust-domain NAME' with the name that the folder was begun with"
    stage
    append "$trust_domain" .new/trust-domain
    return
  fi
  is_trust_domain "$chosen" ||
    die "the file trust-domain in ${folder@Q} holds no trust domain: restore it from a backup"
  [[ -z $trust_domain || $trust_domain == "$chosen" ]] ||
    die "this folder's trust domain is $chosen, not $trust_domain: leave --trust-domain out, or take another folder with --dir"
  trust_domain=$chosen
}

begin_ca() {
  local file
  for file in index.txt crlnumber crl.pem names.txt; do
    [[ ! -e $file ]] ||
      die "there is $file but no CA in ${folder@Q}: restore ca.crt and ca.key from a backup, or move the folder away"
  done
  if [[ -e trust-domain ]]; then settle_trust_domain; fi
  : "${trust_domain:=$DEFAULT_TRUST_DOMAIN}"
  stage
  quietly touch .new/index.txt .new/names.txt ||
    die "cannot write in ${folder@Q}: look at the space on the disk, and run again"
  append 01 .new/crlnumber
  append "$trust_domain" .new/trust-domain
  new_key "${key_kind:-ecdsa}" .new/ca.key
  sign_ca
  read_certificate .new/ca.crt
  say "ca.crt: made, valid until $cert_end"
}

# A new certificate of the same key and subject: everything that the CA has signed stays good under either.
sign_ca() {
  ssl req -x509 -new -key "$(newest ca.key)" -passin pass: -subj '/CN=securedelivery CA' -sha256 \
    -set_serial "$(new_serial)" -days "$CA_DAYS" -extensions authority -out .new/ca.crt
}

renew_ca_if_due() {
  read_certificate ca.crt
  if [[ -z $force ]] && ! is_last_third "$cert_begin" "$cert_end"; then
    say "ca.crt: kept, valid until $cert_end"
    return
  fi
  local former=$cert_end
  stage
  sign_ca
  read_certificate .new/ca.crt
  say "ca.crt: renewed with the same key, valid until $cert_end; give it to every client, the former one ends at $former"
}

new_key() { # kind file
  case $1 in
    rsa) ssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out "$2" ;;
    *) ssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$2" ;;
  esac
}

# 126 random bits; the first digit 4 to 7 keeps it positive and 16 bytes long.
new_serial() {
  local digits
  digits=$(ssl rand -hex 16)
  printf '0x%X%s' $((4 + 16#${digits:0:1} % 4)) "${digits:1}"
}

new_list() {
  stage_index
  ssl ca -gencrl -config "$OPENSSL_CONF" -cert "$(newest ca.crt)" -keyfile "$(newest ca.key)" -passin pass: \
    -crldays "$1" -out .new/crl.pem
  say "crl.pem: made, valid for $1 days; the server applies it when it has read it"
}

# ----------------------------------------------------------------------------------------------------------- the leaves

# Signs a public key (a file with nothing else in it): of a request nothing but the key gets this far.
sign_leaf() { # kind name public-key alt-names
  local kind=$1 who=$2 section=client base subject
  [[ $kind != server ]] || section=server
  base=$(base_of "$kind" "$who") subject=$(subject_of "$kind" "$who")
  if ends_within "$(newest ca.crt)" $((${days:-$LEAF_DAYS} * 86400)); then
    read_certificate "$(newest ca.crt)"
    die "the CA ends before this certificate would, at $cert_end: renew it with '$self', or give fewer --days"
  fi
  stage_index
  SUBJECT_ALT_NAME=$4 ssl x509 -new -force_pubkey "$3" -subj "$subject" -sha256 -set_serial "$(new_serial)" \
    -CA "$(newest ca.crt)" -CAkey "$(newest ca.key)" -passin pass: -days "${days:-$LEAF_DAYS}" \
    -extfile "$OPENSSL_CONF" -extensions "$section" -out ".new/$base.crt"
  chain_is_good -purpose "ssl$section" ".new/$base.crt" >/dev/null ||
    die "the new $base.crt does not verify: check the space on the disk, the clock and ca.crt, and run again"
  read_certificate ".new/$base.crt"
  append "V"$'\t'"$(index_date "$cert_end")"$'\t\t'"$cert_serial"$'\tunknown\t'"$subject" .new/index.txt
  [[ $kind != client ]] || record_name "$who"
  say "$base.crt: issued for $cert_names, valid until $cert_end"
}

# names.txt keeps every client name for ever: such a name is nobody else's to register.
record_name() {
  local known
  stage_index
  while IFS= read -r known; do [[ $known != "$1" ]] || return 0; done <names.txt
  quietly cp names.txt .new/ || die "cannot copy names.txt: look at the space on the disk, and run again"
  append "$1" .new/names.txt
}

# A fresh key and its certificate.
issue_pair() { # kind name key-kind alt-names
  local base public
  base=$(base_of "$1" "$2")
  stage
  new_key "$3" ".new/$base.key"
  public=$(key_of_key ".new/$base.key")
  append "$public" .new/work/public
  sign_leaf "$1" "$2" .new/work/public "$4"
}

# A certificate for somebody else's key; a key of ours that does not fit it goes.
issue_for_public_key() { # kind name file alt-names
  local base
  base=$(base_of "$1" "$2")
  sign_leaf "$1" "$2" "$3" "$4"
  [[ ! -e $base.key ]] || same_key ".new/$base.crt" "$base.key" || stage_removal "$base.key"
}

# Leaves the request's public key, checked, in .new/work/public.
take_request() {
  local said text
  [[ -f $csr || -p $csr ]] && [[ -r $csr ]] || die "cannot read the request ${csr@Q}: check the path after --csr"
  stage
  quietly head -c "$MAX_CSR_BYTES" -- "$csr" >.new/work/request ||
    die "cannot read the request ${csr@Q}: check the path after --csr"
  said=$(openssl req -in .new/work/request -passin pass: -noout -verify 2>&1) && [[ $said == *'verify OK'* ]] ||
    die "${csr@Q} is not a certificate request that its own key has signed: let the customer make it anew (see certs/README.md)"
  ssl req -in .new/work/request -noout -pubkey >.new/work/public
  said=$(<.new/work/public)
  said=${said//$'\n'/}
  # The only encoding of a P-256 key that TLS 1.3 has: named curve, uncompressed point.
  [[ $said == '-----BEGIN PUBLIC KEY-----MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE'* ]] && return
  text=$(ssl pkey -pubin -in .new/work/public -noout -text)
  # rsaEncryption; the other object identifier, RSASSA-PSS, has no scheme in the protocol.
  is_rsa "$said" && [[ $text =~ ^Public-Key:\ \(([0-9]+)\ bit\) ]] &&
    ((BASH_REMATCH[1] >= 3072 && BASH_REMATCH[1] <= 8192)) && [[ $text == *'Exponent: 65537 (0x10001)'* ]] ||
    die "the key in ${csr@Q} is neither P-256 nor RSA of 3072 to 8192 bits: let the customer make the request with such a key"
}

# A certificate and a key that do not belong together are never built upon.
check_pair() { # base words
  if [[ -e $1.crt && -e $1.key ]]; then
    same_key "$1.crt" "$1.key" ||
      die "$1.key does not belong to $1.crt: put the right one back, or make a new pair with '$self $2 --force'"
  elif [[ -e $1.key ]]; then
    die "there is $1.key without $1.crt: remove the key, or make a new pair with '$self $2 --force'"
  fi
}

# An RSA key's encoding has this object identifier at a fixed place; see take_request.
is_rsa() { [[ ${1//$'\n'/} == '-----BEGIN PUBLIC KEY-----MII'??'jANBgkqhkiG9w0BAQEF'* ]]; }

join() {
  local IFS=,
  printf '%s' "$*"
}

# --dns and --ip; else what the present certificate has, if it is one of a server; else the default.
server_alt_names() {
  local host
  if ((${#alt_names[@]} == 0)) && [[ -e server.crt ]]; then
    ! present_alt_names 2>/dev/null || return 0
  fi
  if ((${#alt_names[@]} == 0)); then
    host=$(uname -n)
    add_alt_name DNS:localhost
    ! is_dns_name "$host" || add_alt_name "DNS:${host,,}"
    add_alt_name IP:127.0.0.1
    add_alt_name "IP:$(canonical_ip ::1)"
  fi
  join "${alt_names[@]}"
}

# In a shell of its own, since reading a broken certificate would end the script.
present_alt_names() (
  read_certificate server.crt
  [[ -n $cert_names ]] || return 1
  IFS=, read -ra names <<<"$cert_names"
  for one in "${names[@]}"; do
    case $one in
      DNS:*) is_dns_name "${one#DNS:}" || return 1 ;;
      IP:*) canonical_ip "${one#IP:}" >/dev/null || return 1 ;;
      *) return 1 ;;
    esac
  done
  printf '%s' "$cert_names"
)

# For server, client and proxy alike.
issue_first() { # kind name
  local base words alt
  base=$(base_of "$1" "$2") words=$(words_of "$1" "$2")
  if [[ -z $force ]]; then
    if [[ -e $base.crt ]]; then
      # In a shell of its own, since reading a broken certificate would end the script.
      ! (read_certificate "$base.crt" && is_revoked "$cert_serial") 2>/dev/null ||
        die "$base.crt is revoked: '$self $words --force' issues a new one, if that is meant"
      die "$base.crt is there already: '$self renew $2' renews it, '$self $words --force' replaces it"
    fi
    check_pair "$base" "$words"
  fi
  if [[ $1 == server ]]; then alt=$(server_alt_names); else alt=$(uri_of "$1" "$2"); fi
  if [[ -n $csr ]]; then
    take_request
    issue_for_public_key "$1" "$2" .new/work/public "$alt"
  else
    issue_pair "$1" "$2" "${key_kind:-ecdsa}" "$alt"
  fi
}

# Where the key is here, a fresh one of the same kind; where it is elsewhere, the same one, or that of a new request.
issue_again() { # kind name
  local base words alt public
  base=$(base_of "$1" "$2") words=$(words_of "$1" "$2")
  [[ -e $base.crt ]] || die "$base.crt is missing: issue it with '$self $words'"
  if [[ -z $force ]]; then
    check_pair "$base" "$words"
    read_certificate "$base.crt"
    ! is_revoked "$cert_serial" || die "$base.crt is revoked: '$self $words --force' issues a new one, if that is meant"
    [[ $1 != server || -e server.key ]] ||
      die "server.key is missing: put it back, or make a new pair with '$self server --force'"
  fi
  if [[ $1 == server ]]; then alt=$(server_alt_names); else alt=$(uri_of "$1" "$2"); fi
  if [[ -n $csr ]]; then
    take_request
    issue_for_public_key "$1" "$2" .new/work/public "$alt"
  elif [[ $1 == server || -e $base.key ]]; then
    if [[ -z $key_kind ]] && is_rsa "$(key_of_certificate "$base.crt")"; then key_kind=rsa; fi
    issue_pair "$1" "$2" "${key_kind:-ecdsa}" "$alt"
  else
    stage
    public=$(key_of_certificate "$base.crt")
    append "$public" .new/work/public
    issue_for_public_key "$1" "$2" .new/work/public "$alt"
  fi
  [[ ! -e $base.p12 ]] || say "$base.p12: holds the former pair; '$self p12 $2 --force' makes it anew"
}

# ------------------------------------------------------------------------------------------------------------- commands

# Without a command: make what is missing, renew what is due, say what was kept.
run_all() {
  if [[ -e ca.crt || -e ca.key ]]; then
    require_ca
    renew_ca_if_due
  else
    begin_ca
  fi
  keep_server
  keep_list
  [[ -n $staged ]] || say "nothing is due: nothing was changed"
  commit
}

keep_list() {
  if [[ -z $force && -e crl.pem ]] && list_is_signed; then
    read_list
    if ! is_last_third "$list_begin" "$list_end"; then
      say "crl.pem: kept, valid until $list_end"
      return
    fi
  fi
  new_list "$LIST_DAYS"
}

keep_server() {
  if [[ -n $force || ! -e server.crt ]]; then
    issue_first server server
    return
  fi
  check_pair server server
  [[ -e server.key ]] || die "server.key is missing: put it back, or make a new pair with '$self server --force'"
  chain_is_good -no_check_time -purpose sslserver server.crt >/dev/null ||
    die "server.crt is not a server's from this CA: put the right files back, or make a new pair with '$self server --force'"
  read_certificate server.crt
  ! is_revoked "$cert_serial" || die "server.crt is revoked: make a new pair with '$self server --force'"
  if is_last_third "$cert_begin" "$cert_end"; then
    issue_again server server
    return
  fi
  local one
  for one in "${alt_names[@]}"; do
    [[ ,$cert_names, == *",$one,"* ]] ||
      die "server.crt is not for ${one#*:}: '$self renew server' with all its --dns and --ip makes one that is"
  done
  say "server.crt: kept, valid until $cert_end"
}

run_issue() { # kind
  require_ca
  local other=client
  [[ $1 != client ]] || other=proxy
  [[ $1 == server || -z ${last_row[$(subject_of "$other" "$name")]-} ]] ||
    die "${name@Q} is the name of a $other: choose another"
  issue_first "$1" "${name:-server}"
  commit
}

run_renew() {
  require_ca
  local kind
  kind=$(kind_of "$name")
  [[ $kind == server || ${#alt_names[@]} == 0 ]] || usage "--dns and --ip are for the server"
  [[ $kind != server || -z $csr ]] || usage "--csr is for clients and proxies"
  issue_again "$kind" "$name"
  commit
}

# All certificates of the name that are still valid: also the earlier ones, which renewing left to run out.
run_revoke() {
  require_ca
  local kind subject state note line fields row=0 count=0
  kind=$(kind_of "$name")
  subject=$(subject_of "$kind" "$name")
  printf -v note '%(%y%m%d%H%M%SZ)T' -1
  [[ $reason == unspecified ]] || note+=,$reason # RFC 5280: better no reason than this one
  stage_index
  while IFS= read -r line; do
    if [[ ${row_subject[row]} == "$subject" ]]; then
      state=$(state_of_row "$row")
      if [[ $state == valid || $state == replaced ]]; then
        IFS='|' read -ra fields <<<"${line//$'\t'/|}"
        printf -v line 'R\t%s\t%s\t%s\t%s\t%s' "${fields[1]}" "$note" "${fields[@]:3}"
        say "revoked: $(words_of "$kind" "$name"), serial ${fields[3]}" >&3
        count=$((count + 1))
      fi
    fi
    { printf '%s\n' "$line"; } 2>/dev/null || die "cannot write the index: look at the space on the disk, and run again"
    row=$((row + 1))
  done 3>&1 <index.txt >.new/work/index
  quietly mv .new/work/index .new/index.txt || die "cannot write the index: look at the space on the disk, and run again"
  if ((count == 0)); then
    say "nothing to revoke: no certificate of $name is valid any more"
    return
  fi
  new_list "$LIST_DAYS"
  commit
}

run_crl() {
  require_ca
  new_list "${days:-$LIST_DAYS}"
  commit
}

# The password is asked for before the lock is taken: nobody shall wait for somebody who went for a coffee.
run_p12() {
  require_pair >/dev/null
  local password again=''
  if [[ -t 0 ]]; then
    read -rsp "Password for $name.p12: " password && printf '\n' >&2
    read -rsp "Once more: " again && printf '\n' >&2
    [[ $password == "$again" ]] || die "the two passwords differ: run again"
  else
    IFS= read -r password || [[ -n $password ]] ||
      die "there is no password on standard input: give it in the first line"
  fi
  ((${#password} >= 1 && ${#password} <= 256)) || die "the password has ${#password} bytes: take 1 to 256"
  take_lock
  local base
  base=$(require_pair) || exit
  stage
  printf '%s\n' "$password" | ssl pkcs12 -export -in "$base.crt" -inkey "$base.key" -passin pass: -certfile ca.crt \
    -name "$name" -passout stdin -out ".new/$base.p12"
  say "$base.p12: made"
  commit
}

# Prints the base of a pair that can go into a .p12.
require_pair() {
  require_files ca.crt index.txt
  read_index
  local kind base
  kind=$(kind_of "$name") || exit
  base=$(base_of "$kind" "$name")
  [[ -e $base.key ]] ||
    die "$base.key is not here: if the certificate was issued for a request, its owner has the key and makes the .p12"
  check_pair "$base" "$kind $name"
  [[ ! -e $base.p12 || -n $force ]] || die "$base.p12 is there already: '$self p12 $name --force' replaces it"
  printf '%s' "$base"
}

# What has both ended and been replaced is left out, or the table would be all history.
run_list() {
  require_files ca.crt index.txt
  read_index
  local row kind who state end today width=4 rows=()
  printf -v today '%(%Y%m%d%H%M%SZ)T' -1
  state=valid
  ! ends_within ca.crt 0 || state=expired
  read_certificate ca.crt
  rows+=("1|ca|ca|$cert_serial|$cert_end|$state")
  for row in "${!row_state[@]}"; do
    who=${row_subject[row]#/CN=}
    case $who in
      'securedelivery server') kind=2 who=server ;;
      'proxy '*) kind=4 who=${who#proxy } ;;
      *) kind=3 ;;
    esac
    state=$(state_of_row "$row") end=${row_end[row]}
    [[ ${last_row[${row_subject[row]}]} == "$row" || $end > $today ]] || continue
    end="${end:0:4}-${end:4:2}-${end:6:2} ${end:8:2}:${end:10:2}:${end:12}"
    rows+=("$kind|$who|$kind|${row_serial[row]}|$end|$state")
    ((${#who} <= width)) || width=${#who}
  done
  local kinds=('' ca server client proxy) fields
  printf "%-${width}s  %-6s  %-32s  %-20s  %s\n" NAME KIND SERIAL 'VALID UNTIL' STATE
  printf '%s\n' "${rows[@]}" | sort -s -t '|' -k 1,2 | while IFS='|' read -ra fields; do
    printf "%-${width}s  %-6s  %-32s  %-20s  %s\n" "${fields[1]}" "${kinds[fields[0]]}" "${fields[@]:3}"
  done
}

# --------------------------------------------------------------------------------------------------------------- verify

# Each check_* prints what is wrong, a line each, and what is worth knowing, in lines that begin with "note: ".

checks_failed='' list_signed='' ca_expired=''

# Each check runs in a shell of its own, so that a file that openssl cannot even read is a finding and not the end.
report() { # file findings
  local line notes='' wrong=''
  while IFS= read -r line; do
    case $line in
      '') ;;
      'note: '*) notes+=", ${line#note: }" ;;
      *)
        say "bad  $1: ${line#error: }"
        wrong=yes
        ;;
    esac
  done <<<"$2"
  if [[ -n $wrong ]]; then checks_failed=yes; else say "ok   $1${notes/#,/:}"; fi
}

# More than the mode allows is wrong, less is the operator's choice.
check_mode() { # file mode
  local mode
  mode=$(stat -c %a -- "$1") || exit
  ((8#$mode & ~8#$2)) || return 0
  say "mode is $mode: chmod $2 it"
}

check_readable() {
  [[ -e $1 ]] || die "missing: restore it from a backup"
  [[ -r $1 ]] || die "unreadable: run as the owner of the folder"
}

# Keys are shown on lines of their own only where something is wrong with them.
report_private() { # base
  local file said
  for file in "$1.key" "$1.p12"; do
    [[ -e $file ]] || continue
    said=$(check_mode "$file" 600 2>&1) || true
    [[ -z $said ]] || report "$file" "$said"
  done
}

note_end() { # begin end
  ! is_last_third "$1" "$2" || say "note: due for renewal"
  say "note: valid until $2"
}

check_ca() {
  check_readable ca.crt
  check_mode ca.crt 644
  local said
  read_certificate ca.crt
  said=$(chain_is_good ca.crt) || say "$(verify_reason "$said"): '$self --force' renews the CA with the same key"
  said=$(ssl x509 -in ca.crt -noout -ext basicConstraints,keyUsage)
  [[ $said == *': critical'*'CA:TRUE, pathlen:0'* && $said == *'Key Usage: critical'*'Certificate Sign, CRL Sign'* ]] ||
    say "not a CA as this script makes it: restore it from a backup"
  note_end "$cert_begin" "$cert_end"
}

check_ca_key() {
  check_readable ca.key
  check_mode ca.key 400
  same_key ca.crt ca.key || say "does not belong to ca.crt: restore the pair from a backup"
}

check_list() {
  local remedy=crl
  [[ -e crl.pem ]] || die "missing: '$self crl' makes it; until then the server refuses every client"
  check_readable crl.pem
  check_mode crl.pem 644
  [[ -n $list_signed ]] || die "not signed by this CA: '$self crl' makes it anew"
  read_list
  [[ -z $ca_expired ]] || remedy=--force
  (($(epoch "$list_end") > $(now))) ||
    die "outdated since $list_end, so that the server refuses every client: '$self $remedy' makes it anew"
  note_end "$list_begin" "$list_end"
}

check_index() {
  check_readable index.txt
  check_mode index.txt 600
  check_readable crlnumber
  read_index
}

check_trust_domain() {
  check_readable trust-domain
  settle_trust_domain
  say "note: $trust_domain"
}

check_names() {
  check_readable names.txt
  local file one names
  names=$'\n'$(<names.txt)$'\n'
  while IFS= read -r one; do is_name "$one" ||
    say "${one@Q} is no name: restore the file from a backup"; done <names.txt
  for file in clients/*.crt; do
    one=${file#clients/}
    [[ $names == *$'\n'"${one%.crt}"$'\n'* ]] ||
      say "${one%.crt} is not in it: add it, or somebody without a certificate can take the name"
  done
}

# From openssl's "error 10 at 0 depth lookup: certificate has expired" the words behind the colon.
verify_reason() {
  local said=${1#*lookup: }
  printf '%s' "${said%%$'\n'*}"
}

check_leaf() { # kind name
  local base words said section=client row subject known='' revoked='' listed=''
  base=$(base_of "$1" "$2") words=$(words_of "$1" "$2")
  [[ $1 != server ]] || section=server
  check_readable "$base.crt"
  check_mode "$base.crt" 644
  read_certificate "$base.crt"
  subject=$(subject_of "$1" "$2")
  for row in "${!row_serial[@]}"; do
    [[ ${row_serial[row]} != "$cert_serial" || ${row_subject[row]} != "$subject" ]] || known=${row_state[row]}
  done
  [[ -n $known ]] || say "not in index.txt, so that it cannot be revoked: '$self $words --force' replaces it"
  if ! said=$(chain_is_good -purpose "ssl$section" "$base.crt"); then
    [[ -z $ca_expired ]] || die "the CA has expired: '$self --force' renews it, then verify again"
    if ends_within "$base.crt" 0; then words="renew $2"; else words+=' --force'; fi
    die "$(verify_reason "$said"): '$self $words' replaces it"
  fi
  [[ $known != R ]] || revoked=yes
  if [[ -n $list_signed ]]; then
    said=$(chain_is_good -no_check_time -crl_check -CRLfile crl.pem "$base.crt") || true
    [[ $said != *'certificate revoked'* ]] || listed=yes
    [[ $revoked == "$listed" ]] ||
      say "index.txt and crl.pem disagree on whether it is revoked: '$self crl' makes the list anew"
  fi
  if [[ -n $revoked && $1 == server ]]; then
    say "revoked: '$self server --force' makes a new pair"
  elif [[ -n $revoked ]]; then
    say "note: revoked"
  fi
  if [[ $1 == server ]]; then
    [[ $cert_names == *DNS:* || $cert_names == *IP:* ]] ||
      say "has no host name and no address: '$self server --force' replaces it"
  else
    [[ $cert_names == "$(uri_of "$1" "$2")" ]] || say "is for $cert_names: '$self $words --force' replaces it"
  fi
  if [[ -e $base.key ]]; then
    same_key "$base.crt" "$base.key" ||
      say "its key does not belong to it: put the right one back, or '$self $words --force'"
  elif [[ $1 == server ]]; then
    say "server.key is missing: put it back, or '$self server --force'"
  else
    say "note: the key is its owner's"
  fi
  note_end "$cert_begin" "$cert_end"
}

run_verify() {
  local file kind
  [[ ! -e .commit ]] || die "an interrupted run waits to be finished: run '$self' as the owner of the folder"
  ! list_is_signed || list_signed=yes
  ! quietly openssl x509 -noout -in ca.crt || ! ends_within ca.crt 0 || ca_expired=yes
  report ca.crt "$(check_ca 2>&1)"
  report ca.key "$(check_ca_key 2>&1)"
  report crl.pem "$(check_list 2>&1)"
  report trust-domain "$(check_trust_domain 2>&1)"
  report names.txt "$(check_names 2>&1)"
  report index.txt "$(check_index 2>&1)"
  [[ ! -r index.txt ]] || read_index
  [[ ! -r trust-domain ]] || IFS= read -r trust_domain <trust-domain || true
  report server.crt "$(check_leaf server server 2>&1)"
  report_private server
  for file in clients/*.crt proxies/*.crt; do
    kind=client
    [[ $file == clients/* ]] || kind=proxy
    report "$file" "$(check_leaf "$kind" "$(basename "$file" .crt)" 2>&1)"
    report_private "${file%.crt}"
  done
  for file in clients/*.key proxies/*.key; do
    [[ -e ${file%.key}.crt ]] || report "$file" "there is no certificate with it: remove it"
  done
  [[ -z $ca_expired ]] || die "the CA in ${folder@Q} has expired: begin with '$self --force', then verify again"
  [[ -z $checks_failed ]] || die "something is bad in ${folder@Q}: the lines above say what to do"
}

main() {
  check_bash
  open_streams
  parse "$@"
  enter_folder
  case $command in
    '') run_all ;;
    server | client | proxy) run_issue "$command" ;;
    renew) run_renew ;;
    revoke) run_revoke ;;
    crl) run_crl ;;
    p12) run_p12 ;;
    list) run_list ;;
    verify) run_verify ;;
  esac
}

main "$@"
exit
