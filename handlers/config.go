package handlers

import (
	_ "embed" // the source is part of the reference
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ConfigSource is this file: its comments are the reference of the configuration.
//
//go:embed config.go
var ConfigSource string

// Config says what a consumer does with its events.
type Config struct {
	// What is done with each event: sql, http, exec, mover, splitter or stdout.
	Kind string `koanf:"kind"`

	// For sql: the statement run for each event. Named parameters: :ev_id :ev_time :ev_txid :ev_retry :ev_type :ev_data
	// :ev_extra1 to :ev_extra4, :queue :consumer :batch_id. All are texts, except the numbers ev_id, ev_txid, ev_retry
	// and batch_id and the timestamp ev_time.
	Statement string `koanf:"statement"`
	// For sql, mover and splitter: the configured database where it happens. Empty: the queue's own.
	Database string `koanf:"database"`

	// For http: where events are sent, by POST.
	URL string `koanf:"url"`
	// For http: key of the signature (Standard Webhooks: whsec_ and base64, or any text). Empty: not signed.
	Secret string `koanf:"secret"`
	// For http: file with the secret in its first line.
	SecretFile string `koanf:"secret_file"`
	// For http: more headers, such as Authorization.
	Headers map[string]string `koanf:"headers"`
	// For http: send an array of events at once instead of one event: a failure then repeats all of them.
	Batch bool `koanf:"batch"`
	// For http: how often one request is tried before the event (or the batch) fails; 429 and 5xx answers and broken
	// connections are tried again.
	Attempts int `koanf:"attempts"`
	// For http: limit of one request. For exec: limit of one batch.
	Timeout time.Duration `koanf:"timeout"`

	// For exec: the program and its arguments. It is started once and fed batch after batch; see docs/daemon.md.
	Command []string `koanf:"command"`

	// For mover: the queue that takes the events.
	TargetQueue string `koanf:"target_queue"`
	// For splitter: the field that decides: type, extra1, extra2, extra3 or extra4.
	RouteBy string `koanf:"route_by"`
	// For splitter: queue for each value of the field. Empty: the value is the name of the queue.
	Routes map[string]string `koanf:"routes"`
	// For splitter: queue for values without a route. Empty: such an event fails its batch.
	DefaultQueue string `koanf:"default_queue"`
}

// Kinds lists the kinds of handlers.
func Kinds() []string { return []string{"sql", "http", "exec", "mover", "splitter", "stdout"} }

// routable are the fields that a splitter can decide by.
func routable() []string { return []string{"type", "extra1", "extra2", "extra3", "extra4"} }

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{Attempts: 3, Timeout: 30 * time.Second, RouteBy: "extra1"}
}

// Fault is one thing wrong with a Config; Key names the field as it is written in a file.
type Fault struct {
	Key, Problem string
}

// Validate returns everything that is wrong: a kind that does not exist, a key that the kind needs and lacks, or that
// belongs to another kind.
func (c Config) Validate() []Fault {
	if !slices.Contains(Kinds(), c.Kind) {
		return []Fault{{"kind", fmt.Sprintf("no kind of handler %q; there are: %s", c.Kind, strings.Join(Kinds(), ", "))}}
	}
	var faults []Fault
	for _, k := range c.keys() {
		belongs := slices.Contains(k.kinds, c.Kind)
		switch {
		case k.set && !belongs:
			faults = append(faults, Fault{k.name, fmt.Sprintf("belongs to kind %s, not to %s", strings.Join(k.kinds, ", "), c.Kind)})
		case k.needed && belongs && !k.set:
			faults = append(faults, Fault{k.name, fmt.Sprintf("is needed by kind %s", c.Kind)})
		}
	}
	return append(faults, c.valueFaults()...)
}

// key is one key of a handler, with the kinds that it belongs to.
type key struct {
	name   string
	kinds  []string
	set    bool
	needed bool
}

// keys lists the keys that not every kind has. Keys with defaults are never counted as set by the user.
func (c Config) keys() []key {
	return []key{
		{"statement", []string{"sql"}, c.Statement != "", true},
		{"database", []string{"sql", "mover", "splitter"}, c.Database != "", false},
		{"url", []string{"http"}, c.URL != "", true},
		{"secret", []string{"http"}, c.Secret != "", false},
		{"secret_file", []string{"http"}, c.SecretFile != "", false},
		{"headers", []string{"http"}, len(c.Headers) > 0, false},
		{"batch", []string{"http"}, c.Batch, false},
		{"command", []string{"exec"}, len(c.Command) > 0, true},
		{"target_queue", []string{"mover"}, c.TargetQueue != "", true},
		{"routes", []string{"splitter"}, len(c.Routes) > 0, false},
		{"default_queue", []string{"splitter"}, c.DefaultQueue != "", false},
	}
}

// valueFaults checks the values of the keys.
func (c Config) valueFaults() []Fault {
	var faults []Fault
	fault := func(key, format string, args ...any) {
		faults = append(faults, Fault{key, fmt.Sprintf(format, args...)})
	}
	switch c.Kind {
	case "sql":
		if _, _, err := parseNamed(c.Statement); c.Statement != "" && err != nil {
			fault("statement", "%v", err)
		}
	case "http":
		if u, err := url.Parse(c.URL); c.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			fault("url", "must be an http or https URL")
		}
		if c.Secret != "" && c.SecretFile != "" {
			fault("secret_file", "give secret or secret_file, not both")
		}
		if c.Secret != "" {
			if _, err := signingKey(c.Secret); err != nil {
				fault("secret", "%v", err)
			}
		}
		if c.Attempts < 1 {
			fault("attempts", "must be at least 1, not %d", c.Attempts)
		}
	case "splitter":
		if !slices.Contains(routable(), c.RouteBy) {
			fault("route_by", "no field %q; there are: %s", c.RouteBy, strings.Join(routable(), ", "))
		}
	}
	if c.Timeout <= 0 {
		fault("timeout", "must be positive, not %v", c.Timeout)
	}
	return faults
}
