package cascade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/skytools/skyd/pgq"
)

// keyword is one setting of a connect string.
type keyword struct{ name, value string }

// libpqWords are the settings that every client of libpq understands; what else our driver takes is for itself, or sets
// a parameter of the session.
var libpqWords = strings.Fields(`host hostaddr port dbname user password passfile require_auth channel_binding
	connect_timeout client_encoding options application_name fallback_application_name keepalives keepalives_idle
	keepalives_interval keepalives_count tcp_user_timeout replication gssencmode sslmode requiressl sslnegotiation
	sslcompression sslcert sslkey sslpassword sslcertmode sslrootcert sslcrl sslcrldir sslsni requirepeer
	ssl_min_protocol_version ssl_max_protocol_version krbsrvname gsslib gssdelegation service servicefile
	target_session_attrs load_balance_hosts`)

// CheckLocation refuses a connect string that cannot be the location of a node: one that does not parse, that names no
// host or service, or that sets what only the machine that connects may decide.
func CheckLocation(location string) error {
	words, err := keywords(location)
	if err != nil {
		return fmt.Errorf("location %q: %w", pgq.MaskDSN(location), err)
	}
	for _, w := range words {
		if slices.Contains(untrusted, w.name) {
			return fmt.Errorf("location %q: it must not set %s: that is for the machine that connects to decide", pgq.MaskDSN(location), w.name)
		}
	}
	return nil
}

// Portable writes a connect string the way every libpq client reads it, the original's Python tools among them: as
// keywords, without what only our driver takes.
func Portable(location string) (string, error) {
	words, err := keywords(location)
	if err != nil {
		return "", fmt.Errorf("location %q: %w", pgq.MaskDSN(location), err)
	}
	var parts []string
	for _, w := range words {
		if !slices.Contains(libpqWords, w.name) {
			continue
		}
		value := w.value
		if value == "" || strings.ContainsAny(value, " \t\n'\\") {
			value = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
		}
		parts = append(parts, w.name+"="+value)
	}
	return strings.Join(parts, " "), nil
}

// setting is the value that a connect string gives a keyword.
func setting(location, name string) string {
	words, _ := keywords(location)
	for _, w := range words {
		if w.name == name {
			return w.value
		}
	}
	return ""
}

// HasPassword tells whether a location carries a password, which every reader of any node sees.
func HasPassword(location string) bool { return setting(location, "password") != "" }

// NamesHost tells whether a location says where the server is; without that everybody finds the server of his own machine.
func NamesHost(location string) bool {
	return setting(location, "host")+setting(location, "hostaddr")+setting(location, "service") != ""
}

// keywords splits a connect string in either form.
func keywords(s string) ([]keyword, error) {
	if strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		return urlKeywords(s)
	}
	var words []keyword
	for rest := strings.TrimSpace(s); rest != ""; rest = strings.TrimSpace(rest) {
		name, tail, ok := strings.Cut(rest, "=")
		if name = strings.TrimSpace(name); !ok || name == "" || strings.ContainsAny(name, " \t\n'") {
			return nil, errors.New("it is no connect string: want keyword=value pairs or a URL postgres://")
		}
		value, tail, err := keywordValue(strings.TrimLeft(tail, " \t\n"))
		if err != nil {
			return nil, fmt.Errorf("keyword %s: %w", name, err)
		}
		words, rest = append(words, keyword{name, value}), tail
	}
	if len(words) == 0 {
		return nil, errors.New("it is empty")
	}
	return words, nil
}

// keywordValue reads one value, quoted or not.
func keywordValue(s string) (value, rest string, err error) {
	var b strings.Builder
	quoted := strings.HasPrefix(s, "'")
	if quoted {
		s = s[1:]
	}
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case quoted && c == '\'':
			return b.String(), s[i+1:], nil
		case !quoted && strings.IndexByte(" \t\n", c) >= 0:
			return b.String(), s[i:], nil
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", "", errors.New("the quote is not closed")
	}
	return b.String(), "", nil
}

// urlKeywords splits a URL.
func urlKeywords(s string) ([]keyword, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("it is no valid URL") // the parser's error quotes the password
	}
	var words []keyword
	add := func(name, value string) {
		if value != "" {
			words = append(words, keyword{name, value})
		}
	}
	var hosts, ports []string
	for part := range strings.SplitSeq(u.Host, ",") {
		host, port := part, ""
		if i := strings.LastIndexByte(part, ':'); i >= 0 && !strings.HasSuffix(part, "]") {
			host, port = part[:i], part[i+1:]
		}
		hosts, ports = append(hosts, strings.Trim(host, "[]")), append(ports, port)
	}
	add("host", strings.Join(hosts, ","))
	if joined := strings.Join(ports, ","); strings.Trim(joined, ",") != "" {
		add("port", joined)
	}
	add("dbname", strings.TrimPrefix(u.Path, "/"))
	if u.User != nil {
		add("user", u.User.Username())
		password, _ := u.User.Password()
		add("password", password)
	}
	query := u.Query()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		add(name, query.Get(name))
	}
	return words, nil
}

// Dial is the Opener of commands: OpenLocation, giving up to connect after patience unless the location sets
// connect_timeout itself.
func Dial(patience time.Duration) Opener {
	return func(ctx context.Context, location string) (*pgq.DB, error) {
		return OpenLocation(ctx, location, pgq.WithMaxConns(3), pgq.WithApplicationName("skyd/node"),
			pgq.WithConfig(func(c *pgxpool.Config) {
				if setting(location, "connect_timeout") == "" {
					c.ConnConfig.ConnectTimeout = patience
				}
			}))
	}
}
