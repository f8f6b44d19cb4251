# recalld: `make` builds the three programs with nothing but a compiler and
# make; `make run` starts both servers; `make test` passes every test.
#
# Honoured: CC HOSTCC CFLAGS LDFLAGS CROSS_COMPILE PREFIX DESTDIR BUILD V=1,
# LOOP=poll (the portable loop), SAN=address,undefined (sanitizers).

ifneq ($(CROSS_COMPILE),)
CC      = $(CROSS_COMPILE)gcc
endif
ifeq ($(origin CC),default)
CC      = gcc
endif
HOSTCC ?= cc
BUILD  ?= build
PREFIX ?= /usr/local
CFLAGS ?= -O2 -g
SAN    ?=
LOOP   ?=
Q       = $(if $(V),,@)

WARN    = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wvla -Werror
FLAGS   = -std=c11 $(CFLAGS) -fno-math-errno -ffp-contract=off -I. \
          $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer -DSANITIZED) \
          $(if $(filter poll,$(LOOP)),-DLOOP_POLL)
LINK    = $(if $(SAN),-fsanitize=$(SAN)) $(LDFLAGS) -lm

LIB     = sha1 base64 utf8 number json http ws ws_handshake
MAINS   = recalld recall echo
KERNELS = $(if $(shell $(CC) -dM -E -x c /dev/null | grep -w __x86_64__),avx2 avx512)
KSRC    = servers/inference/kernels.c

SOURCES := $(LIB:=.c) $(filter-out $(MAINS:%=servers/%.c) servers/recall_link.c,$(wildcard servers/*.c servers/*/*.c))
TESTS   := $(patsubst tests/%.c,%,$(wildcard tests/test_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

# The objects of some sources; the kernels are one source compiled several times.
objs    = $(patsubst %.c,$(BUILD)/%.o,$(1)) \
          $(if $(filter $(KSRC),$(1)),$(KERNELS:%=$(BUILD)/servers/inference/kernels_%.o))

.PHONY: unit fuzzers kernel-headers all run test soak bench fuzz crash cross static install uninstall clean size layers lint coverage
all: $(MAINS:%=$(BUILD)/%)

$(BUILD)/recalld: $(call objs,servers/recalld.c $(SOURCES))
$(BUILD)/recall:  $(call objs,servers/recall.c servers/recall_link.c $(LIB:=.c) servers/net.c servers/log.c servers/values.c)
$(BUILD)/echo:    $(call objs,servers/echo.c sha1.c base64.c utf8.c number.c http.c ws.c ws_handshake.c $(wildcard servers/loop*.c servers/conn*.c) servers/net.c servers/server.c)
$(MAINS:%=$(BUILD)/%):
	@echo "  LD    $@"
	$(Q)$(CC) $(FLAGS) -o $@ $^ $(LINK)

# ISO C in the library; the servers use Linux.
$(BUILD)/servers/%.o: DEFS = -D_GNU_SOURCE
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	$(Q)$(CC) $(FLAGS) $(WARN) $(DEFS) -MMD -MP -c -o $@ $<

KFLAGS_avx2   = -O3 -ffp-contract=fast -mavx2 -mfma -mf16c
KFLAGS_avx512 = -O3 -ffp-contract=fast -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c -mprefer-vector-width=512
$(KERNELS:%=$(BUILD)/servers/inference/kernels_%.o): $(BUILD)/servers/inference/kernels_%.o: $(KSRC)
	@mkdir -p $(@D)
	@echo "  CC    $< ($*)"
	$(Q)$(CC) $(FLAGS) $(WARN) -D_GNU_SOURCE $(KFLAGS_$*) -DKERNELS=$* -MMD -MP -c -o $@ $<
# On i686 they need SSE2, and so do exact products: the x87 rounds too late for them.
SSE2 := $(if $(shell $(CC) -dM -E -x c /dev/null | grep -w __i386__),-msse2 -mfpmath=sse)
$(BUILD)/servers/inference/kernels.o: DEFS = -D_GNU_SOURCE -O3 -ffp-contract=fast $(SSE2) $(if $(findstring clang,$(CC)),,-fexcess-precision=fast)
$(BUILD)/servers/memory/cosine.o: DEFS = -D_GNU_SOURCE $(SSE2)

# The page and the clients, put into the binary as they are.
ASSETS := $(sort $(wildcard clients/*.html clients/*.css clients/*.js))
$(BUILD)/assets.inc: $(ASSETS) Makefile
	@mkdir -p $(@D)
	$(Q)n=0; for f in $(ASSETS); do n=$$((n + 1)); echo "ASSET($$n, \"$$f\")"; done > $@
$(BUILD)/servers/assets.o: FLAGS += -I$(BUILD)
$(BUILD)/servers/assets.o: $(BUILD)/assets.inc $(ASSETS)

run: all
	$(BUILD)/recalld

# Tests: a line "// uses: a.c b.c" names what a test links. TEST_MINI=1 takes
# the small runner of tests/test.h where Criterion is not there.
TFLAGS = -Wall -Wextra -D_GNU_SOURCE $(if $(TEST_MINI),-DTEST_MINI -Wno-format-zero-length)
uses    = $(shell sed -n 's|^// uses: ||p' $(1))
define unit
$(BUILD)/tests/$(1): tests/$(1).c tests/test.h $(call objs,$(call uses,tests/$(1).c))
	@mkdir -p $$(@D)
	@echo "  TEST  $$@"
	$(Q)$(CC) $(FLAGS) $(TFLAGS) $(call testflags,$(1)) -MMD -MP -o $$@ tests/$(1).c $$(filter %.o,$$^) $(if $(TEST_MINI),,-lcriterion) $(LINK)
endef
testflags = $(shell sed -n 's|^// flags: ||p' tests/$(1).c)
$(foreach t,$(TESTS),$(eval $(call unit,$(t))))
unit: $(TESTS:%=$(BUILD)/tests/%)

# Fuzz targets: libFuzzer with ASan and UBSan, of clang.
FUZZFLAGS = -std=c11 -O1 -g -I. -D_GNU_SOURCE -DSANITIZED -fno-sanitize-recover=undefined
JANSSON   = $(wildcard /usr/include/jansson.h)
define fuzzer
$(BUILD)/fuzz/$(1): tests/fuzz/$(1).c $(patsubst %.c,$(BUILD)/fuzz/%.o,$(call uses,tests/fuzz/$(1).c))
	@mkdir -p $$(@D)
	@echo "  FUZZ  $$@"
	$(Q)clang $(FUZZFLAGS) -fsanitize=fuzzer,address,undefined $(if $(JANSSON),-DHAVE_JANSSON) -MMD -MP -MF $$@.d -MT $$@ -o $$@ tests/fuzz/$(1).c $$(filter %.o,$$^) -lm $(if $(JANSSON),-ljansson)
endef
$(BUILD)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC    $< (fuzz)"
	$(Q)clang $(FUZZFLAGS) -fsanitize=fuzzer-no-link,address,undefined -MMD -MP -c -o $@ $<
$(foreach f,$(FUZZERS),$(eval $(call fuzzer,$(f))))
fuzzers: $(FUZZERS:%=$(BUILD)/fuzz/%)

# Tests. tests/run takes groups NAME=COMMAND and adds their closing lines up;
# every group runs in small in `make test` and in earnest in `make soak`.
ASAN    = build/asan
RUN_PY  = /usr/bin/python3 -B
JOBS    = -j$(shell nproc)
T       = $(RUN_PY) tests/run
SCRIPTS = $(wildcard tests/*/test_*.py)
UNIT    = for t in $(TESTS); do echo "== $$t"; DIR/tests/$$t || exit 1; done

# NAME=COMMAND of the scripts that drive programs; $(1): short or long.
scripts = $(foreach f,$(SCRIPTS),'$(f:tests/%=%)=BUILD=$(ASAN) $(RUN_PY) $(f)') \
          $(foreach f,$(wildcard tests/*/run.mjs),'$(f:tests/%=%)=BUILD=build node $(f)') \
          $(foreach f,$(wildcard tests/*/run.sh tests/*/run),$(if $(filter-out tests/fuzz/run,$(f)),'$(f:tests/%=%)=BUILD=build $(f) $(1)'))

test:
	@tests/install
	@$(MAKE) --no-print-directory -s $(JOBS) all unit fuzzers static
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=$(ASAN) SAN=address,undefined CFLAGS="-O1 -g" all unit
	@$(T) build/test.log \
	  'layers=tests/layers build' \
	  'unit=$(subst DIR,build,$(UNIT))' \
	  'unit, sanitized=$(subst DIR,$(ASAN),$(UNIT))' \
	  $(call scripts,short) \
	  $(foreach f,$(FUZZERS),'$(f)=tests/fuzz/run build/fuzz/$(f) 5')

soak: export LONG = 1
soak:
	@tests/install soak
	@$(MAKE) --no-print-directory -s $(JOBS) all unit fuzzers static
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=$(ASAN) SAN=address,undefined CFLAGS="-O1 -g" all
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=build/poll LOOP=poll SAN=address,undefined CFLAGS="-O1 -g" all unit
	@$(T) build/soak.log \
	  $(foreach c,$(CROSS),'cross $(firstword $(subst :, ,$(c)))=tests/cross $(subst :, ,$(c))') \
	  'unit under valgrind=tests/memory-errors valgrind' \
	  'unit under MSan=tests/memory-errors msan' \
	  'lint=make -s lint' \
	  'mutants=tests/mutants.sh' \
	  'planted storage bugs=tests/crash/mutants.sh' \
	  $(call scripts,long) \
	  'unit on poll()=$(subst DIR,build/poll,$(UNIT))' \
	  $(foreach f,$(SCRIPTS),'sandboxed, $(f:tests/%=%)=env -u LONG BUILD=build $(RUN_PY) $(f)') \
	  $(foreach f,$(FUZZERS),'$(f)=tests/fuzz/run build/fuzz/$(f) 60')

# Hours: print counts that go into docs/measurements.md.
FUZZ_SECONDS ?= 3600
fuzz: fuzzers
	@for f in $(FUZZERS); do echo "== $$f"; KEEP=1 tests/fuzz/run build/fuzz/$$f $(FUZZ_SECONDS) || exit 1; done
crash: all
	tests/crash/run 10000000
	tests/faults/run long

# Analyzers. gcc 12 follows no ownership through lists and structs: in these files it says
# of leaks, of freed and null pointers and of vectors what is not so; elsewhere all is asked for.
ANALYZER = -O1 -fanalyzer -Wno-analyzer-use-of-uninitialized-value
OWNERS   = -Wno-analyzer-malloc-leak -Wno-analyzer-use-after-free -Wno-analyzer-null-dereference -Wno-analyzer-null-argument -Wno-analyzer-shift-count-overflow
OWNING   = $(patsubst %,servers/%.c,conn_pool events options replies server memory/cosine memory/standing \
           inference/kernels inference/lora inference/lora_config)
lint:
	@command -v cppcheck >/dev/null && command -v clang-tidy >/dev/null || tests/install soak
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=build/analyzer CFLAGS="$(ANALYZER)" $(patsubst %.c,build/analyzer/%.o,$(filter-out $(OWNING),$(SOURCES) $(MAINS:%=servers/%.c)))
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=build/analyzer CFLAGS="$(ANALYZER) $(OWNERS)" all
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=build/clang CC=clang all
	@cppcheck --quiet --std=c11 --error-exitcode=1 --inline-suppr --suppressions-list=tests/cppcheck.txt -I. -Ibuild/clang -D_GNU_SOURCE \
	  -D__x86_64__ $(LIB:=.c) servers
	@printf '%s\n' $(SOURCES) $(MAINS:%=servers/%.c) | \
	  xargs -P $(shell nproc) -n 1 sh -c 'clang-tidy --quiet --warnings-as-errors="*" "$$0" -- -std=c11 -I. -Ibuild/clang -D_GNU_SOURCE 2>/dev/null'

# Branches that the unit tests and scripts take, by file; fails where a group takes too few. About
# 4 minutes. Each run counts anew; what ends by _exit leaves its counters first (tests/coverage.c),
# and sandboxes are off (-DSANITIZED).
COVERAGE = build/coverage
COVERED  = gcovr -r . --branches --print-summary -a $(COVERAGE)/all.json --exclude 'tests/|.*tables'
GROUPS_COVERED = 'library:95:($(subst $() ,|,$(LIB)))\.[ch]' \
          'journal:95:servers/memory/(journal.*|record|walk|disk.*)\.c' \
          'safetensors reader:95:servers/inference/safetensors\.c' 'all:85:.*'
coverage:
	@tests/install soak
	@mkdir -p $(COVERAGE) && find $(COVERAGE) -name '*.gcda' -delete
	@$(CC) -O1 -c -o $(COVERAGE)/exit.o tests/coverage.c
	@$(MAKE) --no-print-directory -s $(JOBS) BUILD=$(COVERAGE) CFLAGS="-O0 -g --coverage -DSANITIZED" \
	  LDFLAGS="--coverage -Wl,--wrap=_exit $(COVERAGE)/exit.o" all unit
	@$(T) build/coverage.log 'unit=$(subst DIR,$(COVERAGE),$(UNIT))' \
	  $(foreach f,$(SCRIPTS),'$(f:tests/%=%)=BUILD=$(COVERAGE) $(RUN_PY) $(f)')
	@gcovr -r . --exclude-throw-branches --json $(COVERAGE)/all.json $(COVERAGE)
	@$(COVERED)
	@for g in $(GROUPS_COVERED); do name=$${g%%:*} rest=$${g#*:}; least=$${rest%%:*}; \
	  found=$$($(COVERED) --filter "$${rest#*:}" --fail-under-branch $$least 2>&1) && verdict=ok || { verdict=FAIL bad=1; }; \
	  echo "$$verdict $$name: $$(echo "$$found" | sed -n 's/^branches: //p') of its branches, at least $$least%"; \
	done; exit $${bad:-0}

# Benchmarks beside peers, one after the other: tables on stdout, CSV and plots in bench/results/, from
# which bench/measurements.py writes the figures of docs/measurements.md. ROUNDS=1 is a short run.
BENCHES = small/small search/scan search/serve embed/embed
ROUNDS ?=
BENCH   = $(RUN_PY) bench/$(1)/run.py --build $(BUILD) $(if $(ROUNDS),--rounds $(ROUNDS))
$(BENCHES:%=$(BUILD)/bench/%): $(BUILD)/bench/%: bench/%.c $(call objs,$(SOURCES))
	@mkdir -p $(@D)
	$(Q)$(CC) $(FLAGS) -D_GNU_SOURCE $(if $(JANSSON),-DHAVE_JANSSON) -o $@ $^ $(LINK) $(if $(JANSSON),-ljansson)
bench:
	@bench/install
	@$(MAKE) --no-print-directory -s $(JOBS) all $(BENCHES:%=$(BUILD)/bench/%)
	@bench/alone $(foreach b,small echo search store embed latency size,'$(call BENCH,$(b))')

# Static binaries of musl: one file to drop in.
static:
	@command -v musl-gcc >/dev/null || tests/install
	@$(MAKE) --no-print-directory BUILD=build/static kernel-headers
	@$(MAKE) --no-print-directory CC=musl-gcc BUILD=build/static CFLAGS="-Os -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -isystem build/static/kernel" \
	  LDFLAGS="-static -Wl,--gc-sections,-z,noseparate-code -s" all

# musl-gcc looks in no directory of the system: lend it the kernel's headers.
kernel-headers:
	@mkdir -p $(BUILD)/kernel
	@for d in linux asm-generic; do ln -sfn /usr/include/$$d $(BUILD)/kernel/$$d; done
	@ln -sfn $$(ls -d /usr/include/$$(gcc -dumpmachine)/asm /usr/include/asm 2>/dev/null | head -n 1) $(BUILD)/kernel/asm
size: static
	@$(RUN_PY) tests/size build/static

# Other machines, static, under qemu-user; i686 runs as it is.
CROSS   = arm-linux-gnueabihf:qemu-arm aarch64-linux-gnu:qemu-aarch64 riscv64-linux-gnu:qemu-riscv64 \
          mips-linux-gnu:qemu-mips s390x-linux-gnu:qemu-s390x i686-linux-gnu:
cross:
	@tests/install soak
	@for c in $(CROSS); do tests/cross "$${c%%:*}" "$${c#*:}" || exit 1; done

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(BUILD)/recalld $(BUILD)/recall $(DESTDIR)$(PREFIX)/bin
	install -m 644 docs/recalld.1 $(DESTDIR)$(PREFIX)/share/man/man1
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/recalld $(DESTDIR)$(PREFIX)/bin/recall $(DESTDIR)$(PREFIX)/share/man/man1/recalld.1

layers: all
	@tests/layers build

clean:
	rm -rf $(BUILD)

%.d: ;
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
