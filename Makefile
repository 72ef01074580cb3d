# The front door: short names for what Meson, Ninja and the scripts do.
#
#   make run        build, and serve the example site
#   make test       everything that can be tested, one line of counts at the end
#   make help       the rest

PREFIX ?= /usr/local
RELEASE ?= build-release
RELEASE_OPTIONS = --buildtype=release -Dprefix=$(PREFIX) -Dlibdir=lib -Dtests=disabled
SECONDS ?= 60
SOAK_SECONDS ?= 1800

# Make has a CC of its own; only one that the user gave is passed on.
ifeq ($(origin CC),default)
undefine CC
unexport CC
else
export CC
endif

.PHONY: help run build test vm bench chaos fuzz coverage soak format check-format install uninstall clean
.DEFAULT_GOAL := build

help:
	@echo 'make run           build, and serve examples/site'
	@echo 'make build         build/cardea, build/libdoor.so, build/libdoor.a'
	@echo 'make test          unit tests, scenarios, house checks; sanitizers on'
	@echo 'make vm            tests on Linux 6.1 and under systemd, in a virtual machine'
	@echo 'make bench         figures, beside nginx and bare loops'
	@echo 'make chaos         kills processes under load, beside nginx and HAProxy'
	@echo 'make fuzz          each fuzzer for SECONDS ($(SECONDS))'
	@echo 'make coverage      which lines of the parsers tests reach, and why not the others'
	@echo 'make soak          the scenarios again and again, SOAK_SECONDS ($(SOAK_SECONDS))'
	@echo 'make format        clang-format on all C files'
	@echo 'make check-format  says which C files are not formatted'
	@echo 'make install       under PREFIX ($(PREFIX)), within DESTDIR'
	@echo 'make uninstall     removes what the last install put there'
	@echo 'make clean         removes all build folders'

build:
	@scripts/setup.sh build
	@scripts/configure.sh build
	@scripts/ninja.sh -C build

run:
	@scripts/setup.sh build site
	@scripts/configure.sh build
	@scripts/ninja.sh -C build
	@exec build/cardea run -f examples/site/cardea.conf

test:
	@scripts/setup.sh build site test
	@exec scripts/test.py

vm:
	@scripts/setup.sh build test vm
	@scripts/configure.sh build
	@scripts/ninja.sh -C build
	@exec python3 scripts/vm.py

bench:
	@scripts/setup.sh build bench
	@scripts/configure.sh build-release $(RELEASE_OPTIONS)
	@scripts/ninja.sh -C build-release
	@scripts/ninja.sh -C build-release bench-programs
	@exec python3 bench/run.py --build build-release

chaos:
	@scripts/setup.sh build test bench
	@scripts/configure.sh build
	@[ "$$(uname -m)" != x86_64 ] || { \
	    scripts/ninja.sh -C build src/front/test-front-exact && \
	    build/src/front/test-front-exact 20; }
	@scripts/configure.sh build-release $(RELEASE_OPTIONS)
	@scripts/ninja.sh -C build-release
	@scripts/ninja.sh -C build-release bench-programs
	@exec python3 bench/chaos.py --build build-release

fuzz:
	@scripts/setup.sh build test
	@exec scripts/fuzz.sh $(SECONDS)

coverage:
	@scripts/setup.sh build test
	@exec scripts/coverage.py --all

soak:
	@scripts/setup.sh build test
	@exec scripts/test.py --soak $(SOAK_SECONDS)

format:
	@scripts/setup.sh test
	@scripts/sources.sh | xargs clang-format -i

check-format:
	@scripts/setup.sh test
	@scripts/sources.sh | xargs clang-format --dry-run -Werror

install:
	@scripts/setup.sh build
	@scripts/configure.sh $(RELEASE) $(RELEASE_OPTIONS)
	@scripts/ninja.sh -C $(RELEASE)
	@DESTDIR="$(DESTDIR)" meson install -C $(RELEASE) --no-rebuild --quiet
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi
	@echo 'install: Cardea is in $(DESTDIR)$(PREFIX); try: $(DESTDIR)$(PREFIX)/bin/cardea help'

# Removes what the last install put there: Meson kept the list of it.
uninstall:
	@test -f $(RELEASE)/meson-logs/install-log.txt || \
	    { echo 'uninstall: nothing was installed from $(RELEASE)' >&2; exit 1; }
	@scripts/ninja.sh -C $(RELEASE) uninstall >$(RELEASE)/meson-logs/uninstall.txt || \
	    { cat $(RELEASE)/meson-logs/uninstall.txt >&2; exit 1; }
	@sed -n 's/^Deleted: \([0-9]*\)$$/uninstall: files removed: \1/p' \
	    $(RELEASE)/meson-logs/uninstall.txt

clean:
	@rm -rf build build-*
