package pgq

import (
	"context"
	"strings"
	"testing"
)

func TestMaskDSN_NoPasswordSurvives(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ dsn, want string }{
		{"", ""},
		{"postgres://u:s3cret@h:5432/db", "postgres://u:***@h:5432/db"},
		{"postgresql://u:s3cret@h1:1,h2:2/db?sslmode=disable", "postgresql://u:***@h1:1,h2:2/db?sslmode=disable"},
		{"postgres://u:s3@cr/et@h/db", "postgres://u:***@h/db"},
		{"postgres://u:s3?cr@et@h/db?x=y", "postgres://***@h/db?x=y"},
		{"postgres://u@h/db?password=s3cret&sslpassword=s3cret&application_name=a", "postgres://u@h/db?password=***&sslpassword=***&application_name=a"},
		{"postgres://u@h/db?p%61ssword=s3cret", "postgres://u@h/db?p%61ssword=***"},
		{"postgres://h/db?application_name=a@b", "postgres://h/db?application_name=a@b"},
		{"host=h password=s3cret user=u", "host=h password=*** user=u"},
		{"host=h password = 's3 cr\\'et' user=u", "host=h password =*** user=u"},
		{"password='s3cret", "password=***"},
		{"PASSWORD=s3cret", "PASSWORD=***"},
		{"service=x", "service=x"},
	} {
		got := MaskDSN(c.dsn)
		if got != c.want || strings.Contains(got, "s3") {
			t.Errorf("%q: got %q, want %q", c.dsn, got, c.want)
		}
	}
}

func TestOpen_BadDSNIsPermanentAndMasked(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://u:s3cret@h:port/db", "postgres://u:s3cret@h/db?sslmode=bad", "host=h password=s3cret sslmode=bad",
		"host=h password='s3cret", "postgres://u:s3%ZZcret@h/db", "password=s3cret port=x", "postgres://u:s3cret@h/db?pool_max_conns=x",
	} {
		db, err := Open(context.Background(), dsn)
		if err == nil {
			db.Close()
			t.Errorf("%q: got no error", dsn)
			continue
		}
		if !Permanent(err) || Retryable(err) || strings.Contains(err.Error(), "cret") {
			t.Errorf("%q: got %v, want a permanent error without the password", dsn, err)
		}
	}
}

func TestOpen_NamesItsConnections(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 40)
	for _, c := range []struct {
		dsn  string
		opts []Option
		want string
	}{
		{"host=h", nil, "skyd"},
		{"host=h application_name=mine", nil, "mine"},
		{"host=h application_name=mine", []Option{WithApplicationName("skyd/a/ticker")}, "skyd/a/ticker"},
		{"host=h", []Option{WithApplicationName(long)}, strings.Repeat("ü", 31)},
	} {
		db, err := Open(context.Background(), c.dsn, append(c.opts, WithMaxConns(3))...)
		if err != nil {
			t.Fatal(err)
		}
		cfg := db.Config()
		db.Close()
		if got := cfg.ConnConfig.RuntimeParams["application_name"]; got != c.want || cfg.MaxConns != 3 {
			t.Errorf("%s: got %q and %d connections, want %q and 3", c.dsn, got, cfg.MaxConns, c.want)
		}
	}
}

func FuzzMaskDSN(f *testing.F) {
	f.Add("user", "p@ss/w?rd", "host", "db")
	f.Add("u", "'", "h:1", "d?x=@y")
	f.Fuzz(func(t *testing.T, user, password, host, db string) {
		const mark = "5eCrEt"
		if strings.Contains(user+host+db, mark) || strings.ContainsAny(user, ":@/?") || strings.Contains(host, "@") {
			t.Skip()
		}
		password = mark + password
		if got := MaskDSN("postgres://" + user + ":" + password + "@" + host + "/" + db); strings.Contains(got, mark) {
			t.Errorf("URL: got %q", got)
		}
		quoted := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password) + "'"
		if got := MaskDSN("host=h password=" + quoted + " dbname=d"); strings.Contains(got, mark) {
			t.Errorf("keywords: got %q", got)
		}
	})
}

func FuzzQuoteQualified(f *testing.F) {
	for _, s := range []string{"pgq.tick", `"a b".c`, `a"b`, "a;drop table b", "é.ü", `"a""b"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted, err := quoteQualified(s)
		if err != nil {
			return
		}
		// What was accepted reads back as itself: nothing but names is in it.
		if again, err := quoteQualified(quoted); err != nil || again != quoted {
			t.Errorf("%q: got %q, then %q, %v", s, quoted, again, err)
		}
	})
}

func TestSettingsOf(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"":                                      "",
		"host=a  Port = 5 options='-c a=b' x":   "host port options",
		`password='a b=c\' options=x' dbname=d`: "password dbname",
		"postgres://u:p@h/d":                    "",
		"postgres://u@h/d?sslmode=x&%6fptions=-c%20a%3Db": "sslmode options",
	} {
		if got := strings.Join(SettingsOf(dsn), " "); got != want {
			t.Errorf("%q: got %q, want %q", dsn, got, want)
		}
	}
}
