#!/bin/sh
# Installs what a purpose needs and this machine lacks.
#
#   scripts/setup.sh [build] [site] [test] [vm] [bench]  (build alone when unnamed)
#
# Debian and its kin: asks dpkg first, and says what it installs and why. Does
# nothing when all is there. Elsewhere it only looks, and fails with a sentence
# that names what is missing. Never asks a question.
set -eu

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

[ $# -gt 0 ] || set -- build

# One line a need: purpose, package, how to see it without dpkg (a command, or
# pc:NAME for pkg-config, or py:NAME for a Python module, or file:PATTERN), and
# what it is for.
needs() {
    cat <<'END'
build gcc            gcc         the compiler
build libc6-dev      file:/usr/include/stdlib.h  the C library's headers
build meson          meson       describes the build
build ninja-build    ninja       runs the build
build bison          bison       the parser of cardea.conf
build flex           flex        the scanner of cardea.conf
build pkg-config     pkg-config  finds libraries
build libseccomp-dev pc:libseccomp  makes the workers' system call filter
test  systemtap-sdt-dev file:/usr/include/*/sys/sdt.h  static probes, for tracers
test  binutils       readelf     shows them
build python3        python3     the checks that are part of the build
site  libsqlite3-dev pc:sqlite3  the example /visits
site  libssl-dev     pc:libcrypto  the example /upload
site  libjansson-dev pc:jansson  the example /status
test  libcmocka-dev  pc:cmocka   unit tests
test  python3-pytest py:pytest   scenario tests
test  libssl-dev     pc:openssl  libraries whose calls an heir makes again
test  clang          clang       the second compiler, and the fuzzers
test  libclang-rt    file:/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.asan-*.a  clang's sanitizers and libFuzzer
test  clang-format   clang-format  the house style
test  curl           curl        a client that is not ours
test  netcat-openbsd nc      a command of inetd, and its client
test  strace         strace      counts system calls in scenarios
test  valgrind       valgrind    memory that was read and never written
test  mandoc         mandoc      checks the manual pages
test  chromium-driver chromedriver  a real browser for the example site
test  systemd        systemd-analyze  judges the unit that cardea save writes
test  tmux           tmux        the terminal of docs/first-minutes.md
test  zsh            zsh         completes words, for the test of that
test  libpython3-dev pc:python3  the Python package
test  python3-flask  py:flask    an application that runs unchanged
test  python3-django py:django   another one
test  php-fpm        file:/usr/sbin/php-fpm*  a program behind FastCGI
test  php-cgi        php-cgi     another one
test  nodejs         node        a program behind HTTP
test  prometheus     prometheus  reads what cardea metrics prints
vm    qemu-system-x86 qemu-system-x86_64  the virtual machine
vm    dbus           dbus-daemon  what systemctl speaks to systemd by
vm    dbus-user-session file:/usr/lib/systemd/user/dbus.socket  the same for a user
vm    libpam-systemd file:/lib/*/security/pam_systemd.so  a user's own systemd
bench nginx-light    nginx       the peer in the figures
bench apache2        apache2     the peer of CGI scripts
bench haproxy        haproxy     a peer whose processes are killed
bench fcgiwrap       fcgiwrap    another one, behind nginx
bench libpython3-dev pc:python3  the Python package
bench php-fpm        file:/usr/sbin/php-fpm*  PHP, for us and for nginx
bench gunicorn       gunicorn    the peer of Python applications
bench uwsgi-plugin-python3 file:/usr/lib/uwsgi/plugins/python3*_plugin.so  another one
END
}

debian_like() {
    [ -r /etc/os-release ] && command -v dpkg-query >/dev/null 2>&1 &&
        command -v apt-get >/dev/null 2>&1 || return 1
    # shellcheck disable=SC1091
    (. /etc/os-release
     case " ${ID:-} ${ID_LIKE:-} " in
     *" debian "* | *" ubuntu "*) exit 0 ;;
     esac
     exit 1)
}

installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Is it there in a way that dpkg does not know (pip, a hand-built tool)?
seen() {
    case $1 in
    pc:*) command -v pkg-config >/dev/null 2>&1 &&
        pkg-config --exists "${1#pc:}" 2>/dev/null ;;
    py:*)
        for p in /usr/bin/python3 python3; do
            "$p" -c "import ${1#py:}" >/dev/null 2>&1 && return 0
        done
        return 1 ;;
    file:*) # shellcheck disable=SC2086
        ls ${1#file:} >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] ;;
    esac
}

# The package of clang's runtime libraries carries clang's version.
clang_rt() {
    v=$(clang -dumpversion 2>/dev/null | cut -d. -f1) || v=
    [ -n "$v" ] || v=$(LC_ALL=C apt-cache depends clang 2>/dev/null |
        sed -n 's/.*Depends: clang-\([0-9][0-9]*\)$/\1/p' | head -n 1)
    [ -n "$v" ] || v=14
    if [ "$v" -lt 14 ]; then
        echo "libclang-common-$v-dev"
    else
        echo "libclang-rt-$v-dev"
    fi
}

wanted() {
    for purpose; do
        case $purpose in
        build | site | test | vm | bench) ;;
        *) die "unknown purpose '$purpose': build, site, test, vm or bench" ;;
        esac
    done
    needs | while read -r purpose package sign what; do
        case " $* " in
        *" $purpose "*) ;;
        *) continue ;;
        esac
        installed "$package" 2>/dev/null && continue
        seen "$sign" && continue
        printf '%s %s\n' "$package" "$what"
    done
}

missing=$(wanted "$@")
if [ -z "$missing" ]; then
    exit 0
fi
names=$(printf '%s\n' "$missing" | cut -d' ' -f1 | tr '\n' ' ')
names=${names% }

if ! debian_like; then
    die "missing here: $names; please install them with this system's package manager (setup knows only Debian and its kin)."
fi

case " $names " in
*" libclang-rt "*) rt=$(clang_rt) ;;
*) rt= ;;
esac
packages=
for n in $names; do
    [ "$n" = libclang-rt ] && n=$rt
    packages="$packages $n"
done
packages=${packages# }
command="apt-get install --no-install-recommends $packages"

if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1; then
    as_root=sudo
    # Without a terminal sudo could not ask for a password: then do not wait.
    [ -t 0 ] || as_root='sudo -n'
    $as_root true 2>/dev/null ||
        die "cannot become root; please run this as root: $command"
else
    die "missing: $packages; not root and no sudo, so please run this as root: $command"
fi

printf '%s\n' "$missing" | while read -r package what; do
    [ "$package" = libclang-rt ] && package=$rt
    say "installing $package: $what"
done

# A package that brings a service must not start it: only the program is
# wanted. A policy that is already there is the owner's and stays.
policy=/usr/sbin/policy-rc.d
made_policy=
drop_policy() {
    [ -z "$made_policy" ] || $as_root rm -f "$policy"
    made_policy=
}
trap drop_policy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
case " $packages " in
*" nginx-light "* | *" apache2 "* | *" fcgiwrap "*)
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
        made_policy=yes
        $as_root chmod 755 "$policy"
    fi ;;
esac

log=$(mktemp)
install() {
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
        --no-install-recommends $packages </dev/null >"$log" 2>&1
}
if ! install; then
    say "asking the package servers for their lists"
    $as_root apt-get update -q </dev/null >>"$log" 2>&1 || true
    if ! install; then
        cat "$log" >&2
        rm -f "$log"
        die "could not install: $packages (apt-get's words are above)"
    fi
fi
rm -f "$log"
