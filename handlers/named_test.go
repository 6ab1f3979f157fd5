package handlers

import (
	"slices"
	"strings"
	"testing"
)

func TestParseNamed(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"insert into t values (:ev_id, :ev_data)":        "insert into t values ($1::bigint, $2::text)",
		"select f(:ev_data, :ev_data::jsonb)":            "select f($1::text, $1::text::jsonb)",
		"select ':ev_id', \":ev_id\", :ev_id":            "select ':ev_id', \":ev_id\", $1::bigint",
		"select E'\\':ev_id', :ev_type":                  "select E'\\':ev_id', $1::text",
		"select 'it''s :ev_id', :queue":                  "select 'it''s :ev_id', $1::text",
		"select $$:ev_id$$, $x1$ :ev_id $$ $x1$, :ev_id": "select $$:ev_id$$, $x1$ :ev_id $$ $x1$, $1::bigint",
		"select 1 -- :ev_id\n, :ev_id":                   "select 1 -- :ev_id\n, $1::bigint",
		"select /* :ev_id */ :batch_id":                  "select /* :ev_id */ $1::bigint",
		"select a[1:2], b::text, x$1$y":                  "select a[1:2], b::text, x$1$y",
		"select '2001-01-01 10:ev'::text":                "select '2001-01-01 10:ev'::text",
	} {
		if got, _, err := parseNamed(sql); err != nil || got != want {
			t.Errorf("%s\n got %s, %v\nwant %s", sql, got, err, want)
		}
	}
	_, names, err := parseNamed("select :consumer, :ev_id, :consumer, :ev_time")
	if err != nil || !slices.Equal(names, []string{"consumer", "ev_id", "ev_time"}) {
		t.Errorf("names %v, %v", names, err)
	}
	for sql, want := range map[string]string{"select :ev_dat": "no parameter :ev_dat", "select $1": "not $1"} {
		if _, _, err := parseNamed(sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", sql, err, want)
		}
	}
}

// FuzzParseNamed: whatever the text, nothing is lost and nothing crashes.
func FuzzParseNamed(f *testing.F) {
	for _, s := range []string{"select ':x'", "$$", "$a$:ev_id", "e'\\", "/*", "--", "a::b", ":ev_id:ev_id", "$ä$ :ev_id $ä$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		text, names, err := parseNamed(sql)
		if err == nil && len(names) == 0 && text != sql {
			t.Errorf("without parameters %q became %q", sql, text)
		}
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	with := func(change func(*Config)) Config {
		c := DefaultConfig()
		change(&c)
		return c
	}
	for name, c := range map[string]struct {
		config Config
		key    string
		text   string
	}{
		"no kind":      {with(func(*Config) {}), "kind", "there are: sql, http"},
		"wrong kind":   {with(func(c *Config) { c.Kind = "sqll" }), "kind", `no kind of handler "sqll"`},
		"missing":      {with(func(c *Config) { c.Kind = "sql" }), "statement", "is needed by kind sql"},
		"foreign":      {with(func(c *Config) { c.Kind, c.URL = "stdout", "http://x" }), "url", "belongs to kind http"},
		"parameter":    {with(func(c *Config) { c.Kind, c.Statement = "sql", "select :nope" }), "statement", "no parameter :nope"},
		"url":          {with(func(c *Config) { c.Kind, c.URL = "http", "localhost:80/x" }), "url", "http or https URL"},
		"two secrets":  {with(func(c *Config) { c.Kind, c.URL, c.Secret, c.SecretFile = "http", "http://x", "a", "b" }), "secret_file", "not both"},
		"secret":       {with(func(c *Config) { c.Kind, c.URL, c.Secret = "http", "http://x", "whsec_!" }), "secret", "not base64"},
		"attempts":     {with(func(c *Config) { c.Kind, c.URL, c.Attempts = "http", "http://x", 0 }), "attempts", "at least 1"},
		"timeout":      {with(func(c *Config) { c.Kind, c.Timeout = "stdout", -1 }), "timeout", "must be positive"},
		"route":        {with(func(c *Config) { c.Kind, c.RouteBy = "splitter", "data" }), "route_by", "there are: type, extra1"},
		"target queue": {with(func(c *Config) { c.Kind = "mover" }), "target_queue", "is needed"},
	} {
		faults := c.config.Validate()
		if len(faults) != 1 || faults[0].Key != c.key || !strings.Contains(faults[0].Problem, c.text) {
			t.Errorf("%s: got %v, want one fault of %s with %q", name, faults, c.key, c.text)
		}
		if _, err := New(c.config, Env{}); err == nil {
			t.Errorf("%s: New took it", name)
		}
	}
}
