package main

import "slices"

// mutants is the list; a room has its part of it. To add one, name a file, a text
// that occurs once in it, what it becomes, and the tests that ought to fail.
var mutants = slices.Concat(decisions, outcomes)

const (
	decide = "gateway/decide.go"
	proxy  = "gateway/proxy.go"

	outcome = "internal/upstream/outcome.go"
	attempt = "internal/upstream/attempt.go"
	stream  = "internal/upstream/stream.go"

	upstreamTests = "./internal/upstream"
	streamTests   = "./gateway -run Stream|LongOpening|SilentCaller|Deadline"
)

// table runs the table's cells of some faults.
func table(faults string) string { return "./gateway -run TestTable/.*/^(" + faults + ")$" }

// What follows from an outcome.
var decisions = []mutant{
	{decide, "Answered:     {pass, pass, pass, pass}", "Answered:     {fail, pass, pass, pass}", table("an-answer")},
	{decide, "Answered:     {pass, pass, pass, pass}", "Answered:     {pass, fail, pass, pass}", table("an-answer")},
	{decide, "Answered:     {pass, pass, pass, pass}", "Answered:     {pass, pass, fail, pass}", table("an-answer")},
	{decide, "NotSent:      {other, other, fail, other}", "NotSent:      {fail, other, fail, other}", table("refused-dial")},
	{decide, "NotSent:      {other, other, fail, other}", "NotSent:      {retry, other, fail, other}", table("refused-dial")},
	{decide, "NotSent:      {other, other, fail, other}", "NotSent:      {other, fail, fail, other}", table("refused-dial")},
	{decide, "NotSent:      {other, other, fail, other}", "NotSent:      {other, retry, fail, other}", table("refused-dial")},
	{decide, "NotSent:      {other, other, fail, other}", "NotSent:      {other, other, pass, other}", table("refused-dial")},
	{decide, "NotSent:      {other, other, fail, other}", "NotSent:      {other, other, fail, fail}", "./gateway -run OtherEndpoint"},
	{decide, "Refused:      {free, free, fail, free}", "Refused:      {free, other, fail, free}", table("REFUSED_STREAM.*")},
	{decide, "Refused:      {free, free, fail, free}", "Refused:      {free, free, free, free}", table("REFUSED_STREAM.*")},
	{decide, "Refused:      {free, free, fail, free}", "Refused:      {free, free, fail, fail}", table("REFUSED_STREAM.*")},
	{decide, "Refused:      {free, free, fail, free}", "Refused:      {free, free, fail, retry}", table("REFUSED_STREAM.*")},
	{decide, "Broken:       {retry, fail, fail, fail}", "Broken:       {fail, fail, fail, fail}", table("closed-after-the-request")},
	{decide, "Broken:       {retry, fail, fail, fail}", "Broken:       {store, fail, fail, fail}", table("closed-after-the-request")},
	{decide, "Broken:       {retry, fail, fail, fail}", "Broken:       {retry, retry, fail, fail}", table("closed-after-the-request")},
	{decide, "Broken:       {retry, fail, fail, fail}", "Broken:       {retry, store, fail, fail}", table("closed-after-the-request")},
	{decide, "Broken:       {retry, fail, fail, fail}", "Broken:       {retry, fail, retry, fail}", table("closed-after-the-request")},
	{decide, "Broken:       {retry, fail, fail, fail}", "Broken:       {retry, fail, fail, free}", table("closed-after-the-request")},
	{decide, "Bare:         {retry, fail, fail, fail}", "Bare:         {pass, fail, fail, fail}", table("bare-502.*")},
	{decide, "Bare:         {retry, fail, fail, fail}", "Bare:         {retry, retry, fail, fail}", table("bare-502.*")},
	{decide, "Bare:         {retry, fail, fail, fail}", "Bare:         {retry, pass, fail, fail}", table("bare-502.*")},
	{decide, "Bare:         {retry, fail, fail, fail}", "Bare:         {retry, fail, pass, fail}", table("bare-502.*")},
	{decide, "Unavailable:  {retry, pass, pass, pass}", "Unavailable:  {pass, pass, pass, pass}", table("unavailable")},
	{decide, "Unavailable:  {retry, pass, pass, pass}", "Unavailable:  {retry, retry, pass, pass}", table("unavailable")},
	{decide, "Unavailable:  {retry, pass, pass, pass}", "Unavailable:  {retry, pass, fail, pass}", table("unavailable")},
	{decide, "Exhausted:    {once, pass, pass, pass}", "Exhausted:    {retry, pass, pass, pass}", table("resource_exhausted.*")},
	{decide, "Exhausted:    {once, pass, pass, pass}", "Exhausted:    {pass, pass, pass, pass}", table("resource_exhausted.*")},
	{decide, "Exhausted:    {once, pass, pass, pass}", "Exhausted:    {once, once, pass, pass}", table("resource_exhausted.*")},
	{decide, "Exhausted:    {once, pass, pass, pass}", "Exhausted:    {once, pass, fail, pass}", table("resource_exhausted.*")},
	{decide, "DeadlineOver: {fail, fail, fail, fail}", "DeadlineOver: {stop, fail, fail, fail}", "./gateway -run Deadline"},
	{decide, "DeadlineOver: {fail, fail, fail, fail}", "DeadlineOver: {fail, stop, fail, fail}", "./gateway -run Deadline"},
	{decide, "DeadlineOver: {fail, fail, fail, fail}", "DeadlineOver: {fail, fail, stop, fail}", "./gateway -run Deadline"},
	{decide, "DeadlineOver: {fail, fail, fail, fail}", "DeadlineOver: {fail, fail, fail, stop}", "./gateway -run Deadline"},
	// Nobody sees what the other columns of CallerLeft do: the call's context has ended.
	{decide, "CallerLeft:   {stop, stop, stop, stop}", "CallerLeft:   {stop, stop, stop, fail}", "./gateway -run CallerEnds|Left|BrokenRequest"},

	// Tries.
	{decide, "		t.freed = true\n		return 0, true", "		t.freed = true\n		t.made++\n		return 0, true", table("REFUSED_STREAM.*")},
	{decide, "		t.freed = true\n", "", "./gateway -timeout 60s -run TestTable/.*/^REFUSED_STREAM$"},
	{decide, "maxTries   = 3", "maxTries   = 2", table("closed-after-the-request.*")},
	{decide, "maxTries   = 3", "maxTries   = 4", table("closed-after-the-request.*")},
	{decide, "t.made < maxTries &&", "t.made <= maxTries &&", table("closed-after-the-request.*")},
	{decide, " && t.budget.spend()", "", "./gateway -run Budget"},
	{decide, "ok = t.made < endpoints", "ok = true", table("refused-dial")},
	{decide, "ok = t.made < endpoints", "ok = false", "./gateway -run OtherEndpoint|ThirdEndpoint"},
	{decide, "ok = ok && t.made == 1", "", table("resource_exhausted.*")},
	{decide, "d <= time.Second\n", "d <= time.Minute\n", table("resource_exhausted.*")},
	{proxy, " && c.rewind()", "", streamTests},
	{proxy, "again && !c.late(wait)", "again", "./gateway -run Deadline"},
	{proxy, "(c.late(0) || !p.stores(c))", "(!p.stores(c))", "./gateway -run NothingStoredAfterDeadline"},

	// The breaker.
	{decide, "case upstream.NotSent, upstream.Broken,", "case upstream.Broken,", table("refused-dial")},
	{decide, "case upstream.NotSent, upstream.Broken,", "case upstream.NotSent,", table("closed-after-the-request")},
	{decide, "upstream.Bare, upstream.Unavailable:\n		return true", "upstream.Unavailable:\n		return true", table("bare-502.*")},
	{decide, "upstream.Bare, upstream.Unavailable:\n		return true", "upstream.Bare:\n		return true", table("unavailable")},
	{decide, "case upstream.NotSent, upstream.Broken,", "case upstream.Refused, upstream.NotSent, upstream.Broken,", table("REFUSED_STREAM")},
	{decide, "case upstream.NotSent, upstream.Broken,", "case upstream.Exhausted, upstream.NotSent, upstream.Broken,", table("resource_exhausted.*")},
	{decide, "case upstream.NotSent, upstream.Broken,", "case upstream.Answered, upstream.NotSent, upstream.Broken,", table("an-answer|plain-500")},
	{decide, "case upstream.NotSent, upstream.Broken,", "case upstream.CallerLeft, upstream.NotSent, upstream.Broken,", "./gateway -run CallerEnds|Left|BrokenRequest"},
	{decide, "case upstream.NotSent, upstream.Broken,", "case upstream.DeadlineOver, upstream.NotSent, upstream.Broken,", "./gateway -run DeadlineSparesBreaker"},
}

// What an attempt came to.
var outcomes = []mutant{
	{outcome, "case !taken, httpMajor", "case httpMajor", upstreamTests},
	{outcome, "case !taken, httpMajor == 1 && writeFailed(err):", "case !taken:", upstreamTests},
	{outcome, "httpMajor == 1 && writeFailed(err)", "writeFailed(err)", upstreamTests},
	{outcome, "		if taken {\n			return Outcome{Broken, \"try-timeout\"}\n		}\n", "", table("try-timeout")},
	{outcome, "case errors.Is(err, errResend),\n		errors.As", "case errors.As", table("GOAWAY.*below.*|REFUSED_STREAM")},
	{outcome, "errors.Is(cause, ErrDeadline)", "false", "./gateway -run Deadline"},
	{outcome, "case cause != nil:", "case false:", "./gateway -run CallerEnds|Left|BrokenRequest"},
	{attempt, "GetBody:       func() (io.ReadCloser, error) { return nil, errResend },", "", table("REFUSED_STREAM|GOAWAY.*")},
	{attempt, "	if b.Len() == 0 {\n		b.taken.Store(true)", "	if b.Len() == 0 {", table("closed-after-the-request")},
	{stream, "if errors.Is(err, io.EOF) || n > 0 && !s.unary {", "if errors.Is(err, io.EOF) {", upstreamTests},
	{stream, "if errors.Is(err, io.EOF) || n > 0 && !s.unary {", "if n > 0 {", upstreamTests},
	{stream, "			case <-closed:\n", "", streamTests + " -timeout 60s"},
	{stream, "			case <-s.over:\n", "", streamTests + " -timeout 60s"},
	{stream, "			case <-s.ctx.Done():\n", "", streamTests + " -timeout 60s"},
	{stream, "	s.at = 0\n	return s.kept", "	return s.kept", streamTests},
	{stream, "s.kept = s.kept && len(s.head) <= maxOpening", "s.kept = false", streamTests},
	{stream, "s.kept = s.kept && len(s.head) <= maxOpening", "", streamTests},

	{attempt, "WroteHeaders: func() { taken.Store(true) },", "", "./gateway ./internal/upstream"},

	// The head of a response.
	{outcome, "	case http.StatusOK:\n		if strings.HasPrefix(contentType, \"application/grpc\") {", "	case http.StatusOK:\n		if false {", table("unavailable")},
	{outcome, "	if !strings.HasPrefix(contentType, \"application/grpc-web\") {", "	if true {", table("grpc-status.*")},
	{outcome, "		if status := res.Header.Get(\"Grpc-Status\"); status != \"\" {\n			return ofStatus(status)\n		}\n", "", upstreamTests},
	{outcome, "	if status := res.Header.Get(\"Grpc-Status\"); status != \"\" {\n		return status // trailers-only\n	}\n", "", upstreamTests},
	{outcome, "return res.Trailer.Get(\"Grpc-Status\")", "return \"\"", table("grpc-status-14-in-trailers")},
	{outcome, "if len(res.head) == 0 {", "if true {", table("grpc-status.*|an-answer")},
	{outcome, "case len(frame) > 0 && frame[0] != trailerFrame:\n			return \"\"\n", "", upstreamTests},
	{outcome, "if strings.HasPrefix(contentType, \"application/grpc-web-text\") {", "if false {", table("grpc-status.*")},
	{outcome, "if res.Header.Get(\"Content-Encoding\") == \"gzip\" {", "if false {", table("unavailable.*")},
	{outcome, "		case res.err != nil || len(res.head) >= maxErrorBody:\n			return \"\"\n		}\n		res.read() // it may come in pieces", "		}\n		return \"\"", table("grpc-status-14-in-a-trailer-frame-in-two-pieces")},
	{outcome, "if contentType == \"application/json\" {", "if false {", upstreamTests},
	{outcome, "case code == connect.CodeUnavailable.String():", "case false:", upstreamTests},
	{outcome, "case code == connect.CodeResourceExhausted.String():", "case false:", upstreamTests},
	{outcome, "case validCode(code):", "case true:", upstreamTests},
	{outcome, "case validCode(code):", "case false:", upstreamTests},
	{outcome, "		if res.StatusCode == http.StatusTooManyRequests {\n			return Outcome{}\n		}\n", "", upstreamTests},
	{outcome, "http.StatusBadGateway, ", "", upstreamTests},
	{outcome, "http.StatusServiceUnavailable, ", "", upstreamTests},
	{outcome, ", http.StatusGatewayTimeout:", ":", upstreamTests},
	{outcome, "case \"14\":", "case \"15\":", upstreamTests},
	{outcome, "case \"8\":", "case \"9\":", table("resource_exhausted.*")},
}
