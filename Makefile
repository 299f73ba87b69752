# culvert: build, test and measure. `make demo` and `make test` need Go, git and make only.
GO       ?= go
BIN      := bin/culvert
VERSION  := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 60s
ROUNDS   ?= 5
SOAKTIME ?= 30m
NETLABFULL := ^(TestFaults|TestHTTPSOnly|TestMappedRoutes|TestDevicesByEveryRoute|TestFilmUnderLoss|TestTwinCustomers|TestNeighboursBehindOneCarrier|TestLoss|TestKeepers|TestIdleAgent|TestOperatorOff|TestSuperNodeGone|TestNATForgets)$$
SEEDS    ?= 200
CROSS    := windows/amd64 windows/arm64 darwin/amd64 darwin/arm64 linux/arm64

export CGO_ENABLED ?= 0

.PHONY: build test race lint demo demo-nat sim sim-full netlab netlab-full bench bench-quick crowd grow scale fuzz fuzz-quick storm soak faults cross staticcheck generate clean

build: ## one static binary, bin/culvert
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/culvert

test: ## everything that needs neither root nor tools beyond Go
	$(GO) test -timeout 9m ./...

# Short: simulations in one goroutine take fewer seeds, since they show the race detector nothing and take ten times as long under it.
race: ## the same under the race detector; needs a C compiler
	CGO_ENABLED=1 $(GO) test -race -short -p 1 -timeout 20m ./...

lint: cross staticcheck ## vet, staticcheck, and builds for the other systems
	@test -z "$$(gofmt -l .)" || { echo "not gofmt'ed:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags netlab,netlabfull,netns,tmpfs ./bench/netlab/... ./discovery/... ./tunnel/portmap ./node/nodetest

staticcheck:
	$(GO) run $(STATICCHECK) ./...

cross:
	@for t in $(CROSS); do echo "build $$t"; \
	  GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) build -o /dev/null ./cmd/culvert && \
	  GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) vet ./... || exit 1; done

demo: build ## a whole mesh on this machine; ends by itself
	./$(BIN) demo

# The targets are read from the source: to ask every test binary for its own would link them all first. Go now and then calls the
# end of FUZZTIME itself a failure, with no input that fails: such a run is done again, twice at most.
fuzz: ## every fuzz target for FUZZTIME each
	@$(GO) list -f '{{.ImportPath}} {{.Dir}} {{join .TestGoFiles " "}} {{join .XTestGoFiles " "}}' ./... | while read p d files; do \
	  [ -n "$$files" ] || continue; \
	  for f in $$(cd $$d && sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$files); do \
	    echo "$$p $$f"; \
	    for try in 1 2 3; do \
	      out=$$($(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$p 2>&1); s=$$?; echo "$$out"; \
	      [ $$s != 0 ] && echo "$$out" | grep -qx ' *context deadline exceeded' && ! echo "$$out" | grep -q 'Failing input' || break; \
	    done; \
	    [ $$s = 0 ] || exit 1; \
	  done; done

fuzz-quick: ## a few seconds each, for every commit
	@$(MAKE) --no-print-directory fuzz FUZZTIME=2s

storm: ## a million mutated datagrams at a live node
	$(GO) test -count=1 -v -run '^TestStorm$$' ./node/nodetest -storm 1000000

grow: ## from the operator alone to twelve super-nodes and back to two, by kill -9, under load; half an hour
	$(GO) test -count=1 -v -timeout 60m -run '^TestGrowAndShrink$$' ./node/nodetest -grow 12 -lookups 2000 -stores 200 -growkill

soak: ## super-nodes killed with kill -9 at random for SOAKTIME, under stores and lookups
	$(GO) test -count=1 -v -timeout 0 -run '^TestSoak$$' ./node/nodetest -soak $(SOAKTIME)

faults: ## a thousand power cuts under node.db, 200 under operator.db, a thousand flipped bits in each state of a database
	$(GO) test -count=1 -v -timeout 30m -run '^(TestPowerCuts|TestBitFlips)$$' ./dht/sqlite -cuts 1000 -flips 1000
	$(GO) test -count=1 -v -timeout 30m -run '^TestPowerCuts$$' ./operator -cuts 200

# The demo between NATs wants no root: where there is one, it is run as somebody else.
demo-nat: build ## the demo between real NATs, in network namespaces of its own; Linux, needs iproute2, nftables, miniupnpd
	@if [ "$$(id -u)" = 0 ]; then d=$$(mktemp -d) && chmod 755 $$d && cp $(BIN) $$d/ && \
	  setpriv --reuid=65534 --regid=65534 --clear-groups $$d/culvert demo --nat; s=$$?; rm -rf $$d; exit $$s; \
	else ./$(BIN) demo --nat; fi

# A seed that fails is replayed, with all that happens in it, by: go test ./bench/sim -run '^TestSeeds$$' -v -seed N
sim: ## a few hundred simulated meshes with all faults on
	$(GO) test -count=1 -timeout 20m -run '^TestSeeds$$' ./bench/sim -seeds $(SEEDS)

sim-full: ## 10,000 of them, and every scenario as often as it is promised
	$(GO) test -count=1 -timeout 10h -v -run '^Test(Liars|HalfKilled|OperatorOff|Audit|AuditOfTheHonest)$$' ./bench/sim -trials 1000 -meshes 100 -hours 24
	$(GO) test -count=1 -timeout 10h -run '^TestSeeds$$' ./bench/sim -seeds 10000

netlab: build demo-nat ## real NATs, real devices, in network namespaces; needs root and .ci/run's packages
	CULVERT_BIN=$(CURDIR)/$(BIN) $(GO) test -count=1 -timeout 15m -p 1 -tags netlab ./bench/netlab/...
	$(GO) test -count=1 -timeout 10m -tags netns ./discovery ./discovery/nat
	$(GO) test -count=1 -timeout 10m -tags netns ./tunnel/portmap
	$(GO) test -count=1 -timeout 3m -tags tmpfs -run '^TestFullFileSystem$$' ./node/nodetest

netlab-full: build ## every kind of site with every other, ROUNDS times, then faults, devices and an idle agent at length; as root
	CULVERT_BIN=$(CURDIR)/$(BIN) $(GO) test -count=1 -v -timeout 60m -tags netlab,netlabfull -run '^TestEveryPair$$' ./bench/netlab/matrix -rounds $(ROUNDS)
	CULVERT_NETLAB_FULL=1 CULVERT_BIN=$(CURDIR)/$(BIN) $(GO) test -count=1 -v -timeout 40m -tags netlab -run '$(NETLABFULL)' ./bench/netlab

bench: build ## messages and tunnels beside bare echoes, ssh, stunnel4, haproxy, coturn, memcached; half an hour at most
	$(GO) run ./bench -bin $(BIN)

bench-quick: build ## the most important cells of it, in a minute
	$(GO) run ./bench -bin $(BIN) -quick

crowd: ## 10,000 tunnels at once to one tunnel-node through one super-node, 5,000 more meanwhile, and what is left of them
	$(GO) test -count=1 -v -timeout 10m -run '^TestCrowd$$' ./bench/tunnels -crowd 10000 -more 5000

scale: build ## a model of 10^3 to 10^6 nodes: loads, bytes, capacity, liars; plots and numbers into bench/results
	$(GO) run ./bench/scale -bin $(BIN)

generate: ## the Go client, from the local API's OpenAPI file
	$(GO) generate ./node/client/api

clean:
	rm -rf bin
