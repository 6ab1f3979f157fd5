package pgqsql_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// newerThanOldest are words of SQL that PostgreSQL 14, the oldest server we promise, does not know, with the version that
// brought them. Servers of 14 are not at hand in every test run, so nothing else would notice.
var newerThanOldest = map[string]string{
	`\bmerge\s+into\b`: "15", `nulls\s+(not\s+)?distinct`: "15", `security_invoker`: "15",
	`\bregexp_(count|instr|like|substr)\s*\(`: "15", `\bon\s+parameter\b`: "15", `\bhas_parameter_privilege\b`: "15",
	`\b(min|max)\s*\(\s*pg_current_xact_id`: "15", `\btables\s+in\s+schema\b`: "15", `\bpg_stat_subscription_stats\b`: "15",
	`\bdaticulocale\b|\bcolliculocale\b`: "15", `\bpg_settings_get_flags\b`: "15",
	`\bany_value\s*\(`: "16", `\bpg_input_(is_valid|error_info)\b`: "16", `\brandom_normal\s*\(`: "16", `\barray_(sample|shuffle)\s*\(`: "16",
	`\bis\s+(not\s+)?json\b`: "16", `\bjson_(array|object|arrayagg|objectagg)\s*\(`: "16", `\bdate_(add|subtract)\s*\(`: "16",
	`\bpg_stat_io\b`: "16", `\berf(c)?\s*\(`: "16", `\bsystem_user\b`: "16", `\b\d+_\d+\b`: "16", `\b0[xob][0-9a-f]+\b`: "16",
	`\bjson_(table|query|value|exists|scalar|serialize)\s*\(`: "17", `\bto_(bin|oct)\s*\(`: "17", `\btransaction_timeout\b`: "17",
	`\bmerge_action\b`: "17", `\bunicode_assigned\b`: "17", `\bpg_stat_checkpointer\b`: "17", `\bon_error\b`: "17", `\bxmltext\b`: "17",
	`\buuidv[47]\s*\(`: "18", `\barray_(sort|reverse)\s*\(`: "18", `\bcasefold\s*\(`: "18", `\bcrc32c?\s*\(`: "18", `\bwithout\s+overlaps\b`: "18",
	`\breturning\s+(with|old\.|new\.)`: "18", `\bstored\s*\|\s*virtual\b|\bas\s*\([^)]*\)\s+virtual\b`: "18", `\bpg_get_acl\b`: "18",
}

// sqlComment is left out; literals are not, because they hold the SQL that is made at run time.
var sqlComment = regexp.MustCompile(`--[^\n]*|/\*(?s:.*?)\*/`)

// newerWord finds a word of newerThanOldest in a text of SQL, "" for none.
func newerWord(text string) string {
	text = strings.ToLower(sqlComment.ReplaceAllString(text, ""))
	for word, version := range newerThanOldest {
		if m := regexp.MustCompile(word).FindString(text); m != "" {
			return m + " (PostgreSQL " + version + ")"
		}
	}
	return ""
}

func TestOldest_NoSQLIsNewerThanTheOldestServer(t *testing.T) {
	t.Parallel()
	files := 0
	err := filepath.WalkDir("sql", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".sql" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		if word := newerWord(string(text)); word != "" {
			t.Errorf("%s uses %s: servers of version 14 refuse it", path, word)
		}
		return nil
	})
	if err != nil || files < 100 {
		t.Errorf("looked at %d files: %v", files, err)
	}
}

func TestOldest_FindsWhatIsNewer(t *testing.T) {
	t.Parallel()
	for text, found := range map[string]bool{
		"MERGE  into t": true, "create unique index i on t (a) nulls not distinct": true, "select any_value (a)": true,
		"select pg_input_is_valid('x', 'int')": true, "select 1_000": true, "select json_value(a, b)": true, "select regexp_like(a, b)": true,
		"-- merge into\nselect 1": false, "execute 'merge into t'": true, "/* any_value( */ select min(a), event_1_2, regexp_replace(a, b, c)": false,
		"select json_build_object('a', 1), jsonb_array_elements(x)": false,
	} {
		if got := newerWord(text); (got != "") != found {
			t.Errorf("%q: found %q", text, got)
		}
	}
}
