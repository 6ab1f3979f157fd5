package configs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/walarchive"
)

// nameRule is what a name may look like: it becomes a label, a path segment and a part of application_name.
var nameRule = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$`)

// checker collects faults.
type checker struct{ faults Faults }

func (k *checker) add(path, format string, args ...any) {
	k.faults = append(k.faults, Fault{Path: path, Text: fmt.Sprintf(format, args...)})
}

// Validate returns nil, or Faults with everything that is wrong.
func (c Config) Validate(ctx context.Context) error {
	if faults := c.check(ctx); len(faults) > 0 {
		return faults
	}
	return nil
}

func (c Config) check(ctx context.Context) Faults {
	var k checker
	k.between("shutdown_timeout", c.ShutdownTimeout, 0, time.Hour)
	k.between("check_period", c.CheckPeriod, 100*time.Millisecond, 24*time.Hour)
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "text", "json")
	k.oneOf("telemetry.protocol", c.Telemetry.Protocol, "http/protobuf", "grpc")
	if c.Telemetry.SampleRatio < 0 || c.Telemetry.SampleRatio > 1 {
		k.add("telemetry.sample_ratio", "must be between 0 and 1 (got %v)", c.Telemetry.SampleRatio)
	}
	if c.HA.LeaseTTL != 0 {
		k.between("ha.lease_ttl", c.HA.LeaseTTL, time.Second, time.Hour)
	}
	k.http(c.HTTP)
	k.ticker("ticker", c.Ticker)
	k.maintenance("maintenance", c.Maintenance)
	if len(c.Databases)+len(c.WAL) == 0 {
		k.add("databases", "no database to serve: give --db DSN, or list some in the configuration file")
	}
	names := map[string]int{}
	for i, d := range c.Databases {
		at := fmt.Sprintf("databases[%d]", i)
		if first, dup := names[d.Name]; dup && d.Name != "" {
			k.add(at+".name", "the name %q is taken by databases[%d]", d.Name, first)
		} else {
			names[d.Name] = i
		}
		k.database(ctx, at, d)
		if d.Ticker != c.Ticker {
			k.ticker(at+".ticker", d.Ticker)
		}
		if d.Maintenance != c.Maintenance {
			k.maintenance(at+".maintenance", d.Maintenance)
		}
		if d.CheckPeriod != c.CheckPeriod {
			k.between(at+".check_period", d.CheckPeriod, 100*time.Millisecond, 24*time.Hour)
		}
	}
	taken := map[[3]string]int{}
	for i, u := range c.Consumers {
		at := fmt.Sprintf("consumers[%d]", i)
		key := [3]string{u.Database, u.Queue, u.Name}
		if first, dup := taken[key]; dup {
			k.add(at+".name", "consumer %q on queue %q stands in consumers[%d] already; for more workers use workers", u.Name, u.Queue, first)
		} else {
			taken[key] = i
		}
		k.consumer(at, u, c.Databases)
	}
	k.nodes(c.Nodes, c.Databases)
	k.archives(c.WAL, c.Databases)
	return k.faults
}

// nodes checks the nodes.
func (k *checker) nodes(nodes []Node, databases []Database) {
	taken := map[[2]string]int{}
	for i, n := range nodes {
		at := fmt.Sprintf("nodes[%d]", i)
		if first, dup := taken[[2]string{n.Database, n.Queue}]; dup {
			k.add(at+".queue", "queue %q has a node in this database already, in nodes[%d]", n.Queue, first)
		} else {
			taken[[2]string{n.Database, n.Queue}] = i
		}
		if n.Name == "" {
			k.add(at+".name", "is missing")
		}
		if n.Queue == "" {
			k.add(at+".queue", "is missing")
		}
		k.databaseOf(at, n.Database, databases)
		if n.Kind == "londiste" {
			k.add(at+".kind", "londiste is not available in this version; %s copies events and applies nothing", KindCascade)
		} else {
			k.oneOf(at+".kind", n.Kind, KindCascade)
		}
		k.between(at+".poll_period", n.PollPeriod, time.Millisecond, time.Hour)
		k.between(at+".watermark_period", n.WatermarkPeriod, time.Second, 24*time.Hour)
		if n.DeadRetention != 0 {
			k.between(at+".dead_retention", n.DeadRetention, time.Minute, 100*365*24*time.Hour)
		}
		k.between(at+".step_timeout", n.StepTimeout, time.Second, 24*time.Hour)
	}
}

// databaseOf checks the name of the database that something stands in, and tells whether a name is known.
func (k *checker) databaseOf(at, name string, databases []Database) (known func(name string) bool) {
	known = func(name string) bool {
		return slices.ContainsFunc(databases, func(d Database) bool {
			return d.Name == name && !d.Discover || d.Discover && strings.HasPrefix(name, d.Name+".")
		})
	}
	names := databaseNames(databases)
	switch {
	case name == "" && (len(databases) != 1 || databases[0].Discover):
		k.add(at+".database", "is missing; there are: %s", strings.Join(names, ", "))
	case name != "" && !known(name):
		k.add(at+".database", "no database %q%s", name, DidYouMean(name, names))
	}
	return known
}

func databaseNames(databases []Database) (names []string) {
	for _, d := range databases {
		names = append(names, d.Name)
	}
	return names
}

// archives checks the WAL archives.
func (k *checker) archives(wal []walarchive.Config, databases []Database) {
	names := databaseNames(databases)
	taken := map[string]int{}
	for i, w := range wal {
		at := fmt.Sprintf("wal[%d]", i)
		if first, dup := taken[w.Source]; dup {
			k.add(at+".source", "the source %q stands in wal[%d] already", w.Source, first)
		} else {
			taken[w.Source] = i
		}
		for _, f := range w.Validate() {
			k.add(at+"."+f.Key, "%s", f.Problem)
		}
		if w.Database != "" && !slices.Contains(names, w.Database) {
			k.add(at+".database", "no database %q%s", w.Database, DidYouMean(w.Database, names))
		}
	}
}

// consumer checks one consumer.
func (k *checker) consumer(at string, u Consumer, databases []Database) {
	if u.Name == "" {
		k.add(at+".name", "is missing")
	}
	if u.Queue == "" {
		k.add(at+".queue", "is missing")
	}
	known := k.databaseOf(at, u.Database, databases)
	if u.Workers < 1 || u.Workers > 64 {
		k.add(at+".workers", "must be between 1 and 64 (got %d)", u.Workers)
	}
	k.between(at+".poll_period", u.PollPeriod, time.Millisecond, time.Hour)
	k.between(at+".batch_timeout", u.BatchTimeout, time.Millisecond, 24*time.Hour)
	k.between(at+".dead_interval", u.DeadInterval, time.Second, 24*time.Hour)
	k.between(at+".event_retry", u.EventRetry, 0, 365*24*time.Hour)
	if u.Merge < 0 {
		k.add(at+".merge", "must not be negative (got %d)", u.Merge)
	}
	for _, f := range u.Handler.Validate() {
		k.add(at+".handler."+f.Key, "%s", f.Problem)
	}
	switch target := u.Handler.Database; {
	case target == "":
	case !known(target):
		k.add(at+".handler.database", "no database %q%s", target, DidYouMean(target, databaseNames(databases)))
	case u.Workers > 1 && target != u.Database:
		k.add(at+".workers", "must be 1 when the handler works in another database than the queue's")
	}
}

func (k *checker) between(path string, d, least, most time.Duration) {
	switch {
	case d < 0 || (d == 0 && least > 0):
		k.add(path, "must be positive (got %s)", d)
	case d < least:
		k.add(path, "must be at least %s (got %s)", least, d)
	case d > most:
		k.add(path, "must be at most %s (got %s)", most, d)
	}
}

func (k *checker) oneOf(path, value string, values ...string) {
	if !slices.Contains(values, value) {
		k.add(path, "must be one of %s (got %q)", strings.Join(values, ", "), value)
	}
}

func (k *checker) ticker(path string, t Ticker) {
	k.between(path+".period", t.Period, time.Millisecond, time.Hour)
	k.between(path+".min_period", t.MinPeriod, time.Millisecond, time.Hour)
	k.between(path+".quiet_period", t.QuietPeriod, 0, 24*time.Hour)
	k.between(path+".look_timeout", t.LookTimeout, time.Millisecond, time.Hour)
	k.between(path+".tick_timeout", t.TickTimeout, time.Millisecond, time.Hour)
	if t.Parallel < 1 || t.Parallel > 64 {
		k.add(path+".parallel", "must be between 1 and 64 (got %d)", t.Parallel)
	}
}

func (k *checker) maintenance(path string, m Maintenance) {
	k.between(path+".period", m.Period, 10*time.Millisecond, 24*time.Hour)
	k.between(path+".retry_period", m.RetryPeriod, 10*time.Millisecond, 24*time.Hour)
	k.between(path+".operation_timeout", m.OperationTimeout, time.Millisecond, 24*time.Hour)
}

func (k *checker) http(h HTTP) {
	if (h.TLSCert == "") != (h.TLSKey == "") {
		k.add("http.tls_cert", "tls_cert and tls_key belong together; one is missing")
	}
	if h.Listen == None {
		return
	}
	host, port, err := net.SplitHostPort(h.Listen)
	if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 0 || n > 65535 {
		k.add("http.listen", "must be host:port, or none (got %q)", h.Listen)
		return
	}
	if h.TLSCert == "" && !h.Insecure && !isLoopback(host) {
		k.add("http.listen", "%s can be reached from other machines: set http.tls_cert and http.tls_key, or http.insecure: true",
			h.Listen)
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

func (k *checker) database(ctx context.Context, at string, d Database) {
	switch {
	case d.Name == "":
		k.add(at+".name", "is missing")
	case !nameRule.MatchString(d.Name):
		k.add(at+".name", "may hold letters, digits, _ . and - only (got %q)", d.Name)
	}
	if d.DSN == "" {
		k.add(at+".dsn", "is missing")
	} else if err := checkDSN(ctx, d.DSN); err != nil {
		k.add(at+".dsn", "%s", dsnText(err))
	}
	if d.Pooler != "" {
		k.oneOf(at+".pooler", d.Pooler, None, "transaction")
	}
	if d.LeaseDSN != "" {
		if err := checkDSN(ctx, d.LeaseDSN); err != nil {
			k.add(at+".lease_dsn", "%s", dsnText(err))
		}
	}
	if d.Password != "" && d.PasswordFile != "" {
		k.add(at+".password_file", "password and password_file exclude each other")
	}
	if !d.Discover && len(d.Include)+len(d.Exclude) > 0 {
		k.add(at+".include", "include and exclude need discover: true")
	}
	k.patterns(at+".include", d.Include)
	k.patterns(at+".exclude", d.Exclude)
}

func (k *checker) patterns(at string, patterns []string) {
	for i, p := range patterns {
		if _, err := path.Match(p, "x"); err != nil {
			k.add(fmt.Sprintf("%s[%d]", at, i), "is not a pattern: %q", p)
		}
	}
}

// checkDSN parses a DSN; there is no I/O.
func checkDSN(ctx context.Context, dsn string) error {
	db, err := pgq.Open(ctx, dsn)
	if err != nil {
		return err
	}
	db.Close()
	return nil
}

// dsnText is the reason without the outer words; the DSN in it is masked by pgq.
func dsnText(err error) string {
	if inner := errors.Unwrap(err); inner != nil {
		return "cannot be used: " + inner.Error()
	}
	return "cannot be used: " + err.Error()
}
