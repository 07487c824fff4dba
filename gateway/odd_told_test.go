package gateway_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// What differs between two runs in any case: ids, the time that is left to a call, the date, and how the kernel tells of an end.
var (
	aULID     = regexp.MustCompile(`[0-9A-HJKMNP-TV-Z]{26}`)
	aDeadline = regexp.MustCompile(`(?i)^(connect-timeout-ms|grpc-timeout): \d+[A-Za-z]?$`)
	anEnd     = regexp.MustCompile(`\b(closed|reset|connection|reset-stream|broken-answer)( → |\); |\), |$)`)
	aDate     = regexp.MustCompile(`(?i)^date: \w{3}, \d\d \w{3} 20[2-9]\d \d\d:\d\d:\d\d GMT$`)
	anAddress = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	// How long a body is may be said, or it comes in chunks.
	aFraming = regexp.MustCompile(`(?i)^(content-length: \d+|transfer-encoding: chunked)$`)
)

// told is a message's fields and body, as they are compared. The order of fields with different names means nothing, and cookies may come in crumbs (RFC
// 9113, section 8.2.3).
func told(first string, fields []string, body string) string {
	var lines []string
	text := anEnd.ReplaceAllString(aULID.ReplaceAllString(body, "ULID"), "cut$2")
	noAgent := slices.ContainsFunc(fields, func(f string) bool { return strings.EqualFold(f, "user-agent: ") })
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		switch {
		case aDate.MatchString(f):
			lines = append(lines, name+": today")
		case aDeadline.MatchString(f) && !slices.Contains(deadlines, value):
			lines = append(lines, name+": less")
		case strings.EqualFold(name, "cookie"):
			for crumb := range strings.SplitSeq(value, ";") {
				if crumb = strings.TrimSpace(crumb); crumb != "" {
					lines = append(lines, name+": "+crumb)
				}
			}
		case strings.EqualFold(name, "grpc-message"):
			lines = append(lines, anEnd.ReplaceAllString(f, "cut$2"))
		case strings.EqualFold(name, "grpc-status-details-bin"): // says what the message says
		case strings.EqualFold(name, "user-agent") && (noAgent || slices.Contains(lines, f)): // net/http sends the first one alone, and none if that is empty
		case strings.EqualFold(f, "cache-control: no-cache"): // net/http's server adds it to Pragma
		case strings.EqualFold(name, "trailer"):
			names := strings.Split(value, ",")
			slices.Sort(names)
			lines = append(lines, name+": "+strings.Join(names, ","))
		case aFraming.MatchString(f):
		default:
			lines = append(lines, anEnd.ReplaceAllString(aULID.ReplaceAllString(f, "ULID"), "cut$2"))
		}
	}
	slices.Sort(lines)
	if before, _, cut := strings.Cut(text, "cut"); cut && text != body { // what follows says it again, in base64, and what is before {, its length
		text = before[max(0, strings.Index(before, "{")):]
	}
	return anAddress.ReplaceAllString(fmt.Sprintf("%s %q %q", first, lines, text), "HERE")
}

// lines are a header's fields.
func lines(header http.Header) (all []string) {
	for key, values := range header {
		for _, value := range values {
			all = append(all, key+": "+value)
		}
	}
	return all
}
