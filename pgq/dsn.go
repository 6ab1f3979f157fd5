package pgq

import (
	"net/url"
	"strings"
)

// mask stands where a secret was.
const mask = "***"

// secretKeys are the DSN settings whose values are never shown.
var secretKeys = map[string]bool{"password": true, "sslpassword": true}

// MaskDSN returns the DSN with its passwords replaced by ***. It is meant for
// logs and errors and therefore never fails: what cannot be understood is
// masked rather too far than not far enough.
func MaskDSN(dsn string) string {
	masked, _ := splitSecrets(dsn)
	return masked
}

// splitSecrets returns the masked DSN and the secrets that were in it.
func splitSecrets(dsn string) (masked string, secrets []string) {
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		if rest, ok := strings.CutPrefix(dsn, scheme); ok {
			masked, secrets = maskURL(rest)
			return scheme + masked, secrets
		}
	}
	return maskKeyValues(dsn)
}

// maskURL masks what follows the scheme. The user part reaches to the last @,
// because an unescaped @ or / in a password is the most common way to get a
// DSN wrong.
func maskURL(s string) (string, []string) {
	var secrets []string
	add := func(raw string) {
		if raw == "" {
			return
		}
		secrets = append(secrets, raw)
		if plain, err := url.PathUnescape(raw); err == nil && plain != raw {
			secrets = append(secrets, plain)
		}
	}
	at, q := strings.LastIndexByte(s, '@'), strings.IndexByte(s, '?')
	if q >= 0 && q < at {
		if strings.ContainsAny(s[:q], ":@") {
			// A ? in the password, or an @ in the query: nobody can tell.
			add(s[:at])
			return mask + s[at:], secrets
		}
		at = -1
	}
	main, query, hasQuery := strings.Cut(s, "?")
	if at >= 0 {
		if user, password, ok := strings.Cut(main[:at], ":"); ok {
			add(password)
			main = user + ":" + mask + main[at:]
		}
	}
	if !hasQuery {
		return main, secrets
	}
	parts := strings.Split(query, "&")
	for i, p := range parts {
		key, value, ok := strings.Cut(p, "=")
		if name, err := url.QueryUnescape(key); ok && (err != nil || secretKeys[strings.ToLower(name)]) {
			add(value)
			parts[i] = key + "=" + mask
		}
	}
	return main + "?" + strings.Join(parts, "&"), secrets
}

// maskKeyValues masks a key=value DSN, with libpq's quoting rules.
func maskKeyValues(s string) (string, []string) {
	var (
		out     strings.Builder
		secrets []string
	)
	for len(s) > 0 {
		eq := strings.IndexByte(s, '=')
		if eq < 0 {
			out.WriteString(s)
			break
		}
		fields := strings.Fields(s[:eq])
		out.WriteString(s[:eq+1])
		value, rest := cutValue(s[eq+1:])
		if len(fields) > 0 && secretKeys[strings.ToLower(fields[len(fields)-1])] {
			if raw := strings.TrimSpace(value); raw != "" {
				secrets = append(secrets, raw, strings.Trim(raw, "'"))
			}
			value = mask
		}
		out.WriteString(value)
		s = rest
	}
	return out.String(), secrets
}

// cutValue splits off the value at the start of s: quoted, or up to a blank.
func cutValue(s string) (value, rest string) {
	i := 0
	for i < len(s) && isBlank(s[i]) {
		i++
	}
	quoted := i < len(s) && s[i] == '\''
	if quoted {
		i++
	}
	for ; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
		case quoted && s[i] == '\'':
			return s[:i+1], s[i+1:]
		case !quoted && isBlank(s[i]):
			return s[:i], s[i:]
		}
	}
	return s, ""
}

func isBlank(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'
}

// dsnError is a refused DSN: the driver's reason without any secret.
type dsnError struct{ reason string }

func (e *dsnError) Error() string { return e.reason }

// maskParseError keeps the reason of a failed parse and drops the DSN that the
// driver repeats in it.
func maskParseError(dsn string, err error) error {
	reason := err.Error()
	if i := strings.LastIndex(reason, "`: "); i >= 0 {
		reason = reason[i+3:]
	}
	_, secrets := splitSecrets(dsn)
	for _, s := range secrets {
		reason = strings.ReplaceAll(reason, s, mask)
	}
	return &dsnError{reason: reason}
}

// SettingsOf lists the names of the settings in a DSN of either form, in lower
// case and in their order; of a URL those of its query. It is for those who
// must refuse some of them in a DSN that is not their own.
func SettingsOf(dsn string) []string {
	var names []string
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		rest, ok := strings.CutPrefix(dsn, scheme)
		if !ok {
			continue
		}
		_, query, _ := strings.Cut(rest, "?")
		for pair := range strings.SplitSeq(query, "&") {
			key, _, _ := strings.Cut(pair, "=")
			if plain, err := url.QueryUnescape(key); err == nil {
				key = plain
			}
			if key != "" {
				names = append(names, strings.ToLower(key))
			}
		}
		return names
	}
	for rest := dsn; ; {
		before, after, ok := strings.Cut(rest, "=")
		if fields := strings.Fields(before); ok && len(fields) > 0 {
			names = append(names, strings.ToLower(fields[len(fields)-1]))
		}
		if !ok {
			return names
		}
		_, rest = cutValue(after)
	}
}
