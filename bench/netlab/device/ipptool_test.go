//go:build linux

package device

import (
	"slices"
	"testing"
)

const output = `"/work/ipp-everywhere.test":
    RFC 8011 section 4.1.1: Bad request-id value 0                       [PASS]
    RFC 8011: Print [draft]                                              [FAIL]
        RECEIVED: 120 bytes in response
        status-code = client-error-bad-request (Bad request)
    A sample                                                             [SKIP]

Summary: 3 tests, 1 passed, 1 failed, 1 skipped
`

func TestPatient(t *testing.T) {
	const in = "{\n\tOPERATION Create-Job\n}\n{\n\tSKIP-IF-DEFINED PRINT_JOB_COMPLETED\n\tOPERATION Cancel-Job\n}\n{\n\tOPERATION Print-Job\n\tSTATUS server-error-busy REPEAT-MATCH\n}\n"
	const want = "{\n\tDELAY \"0.05,0.2\"\n\tOPERATION Create-Job\n\tSTATUS server-error-busy REPEAT-MATCH REPEAT-LIMIT 100\n}\n" +
		"{\n\tDELAY \"0.05,0.2\"\n\tOPERATION Cancel-Job\n}\n" +
		"{\n\tDELAY \"0.05,0.2\"\n\tOPERATION Print-Job\n\tSTATUS server-error-busy REPEAT-MATCH\n}\n"
	if got := string(patient([]byte(in))); got != want {
		t.Errorf("got\n%s", got)
	}
}

func TestParseReport(t *testing.T) {
	r := parseReport([]byte(output))
	want := Report{
		{"RFC 8011 section 4.1.1: Bad request-id value 0", "PASS"},
		{"RFC 8011: Print [draft]", "FAIL"},
		{"A sample", "SKIP"},
	}
	if !slices.Equal(r, want) {
		t.Fatalf("got %v, want %v", r, want)
	}
	if r.Count("PASS") != 1 || r.Count("FAIL") != 1 || r.Count("SKIP") != 1 {
		t.Error("the verdicts are not counted")
	}
	if diff := r.Diff(want); len(diff) != 0 {
		t.Errorf("the same reports differ: %v", diff)
	}
	other := slices.Clone(r)
	other[1].Verdict = "PASS"
	if diff := r.Diff(other); len(diff) != 1 {
		t.Errorf("one other verdict: %v", diff)
	}
	if diff := r.Diff(r[:2]); len(diff) != 1 {
		t.Errorf("one line less: %v", diff)
	}
}
