package runtime

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Alert rules name only metrics and labels that exist, and runbooks that are written.
func TestAlerts_NameWhatExists(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/skyd.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var anchors []string
	for _, head := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(manual), -1) {
		anchors = append(anchors, strings.ReplaceAll(strings.ToLower(head[1]), " ", "-"))
	}
	labels := map[string][]string{}
	for _, line := range slices.Concat(metricNames, archiveMetricNames) {
		fields := strings.Split(line, " ")
		labels[fields[0]] = strings.Split(fields[2], ",")
	}
	var doc struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Groups) != 1 || len(doc.Groups[0].Rules) < 10 {
		t.Fatalf("got %+v", doc)
	}
	for _, r := range doc.Groups[0].Rules {
		metrics := regexp.MustCompile(`\bskyd_\w+`).FindAllString(r.Expr, -1)
		if len(metrics) != 1 || labels[metrics[0]] == nil {
			t.Errorf("%s: %v in %q, want one metric that exists", r.Alert, metrics, r.Expr)
			continue
		}
		used := regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(r.Annotations["summary"], -1)
		by := regexp.MustCompile(`by \(([\w, ]*)\)`).FindStringSubmatch(r.Expr)
		var kept []string
		if by != nil {
			kept = strings.Split(by[1], ", ")
		}
		for _, l := range kept {
			if !slices.Contains(labels[metrics[0]], l) {
				t.Errorf("%s: %s has no label %s", r.Alert, metrics[0], l)
			}
		}
		for _, u := range used {
			if !slices.Contains(kept, u[1]) {
				t.Errorf("%s: label %s is not kept by the expression", r.Alert, u[1])
			}
		}
		if !slices.Contains(anchors, r.Annotations["runbook"]) {
			t.Errorf("%s: no runbook %q in docs/operations.md", r.Alert, r.Annotations["runbook"])
		}
	}
}
