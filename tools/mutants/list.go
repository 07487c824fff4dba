package main

import "slices"

// mutants is the list; a room has its part of it. To add one, name a file, a text
// that occurs once in it, what it becomes, and the tests that ought to fail.
var mutants = slices.Concat(decisions, ends, handOffs, outcomes, transitions, replays, trust, bridges, reloads, wires, plains)

const (
	decide  = "gateway/decide.go"
	direct  = "gateway/direct.go"
	finish  = "gateway/finish.go"
	reply   = "gateway/reply.go"
	breaker = "gateway/breaker.go"
	handOff = "gateway/handoff.go"

	outcome = "internal/upstream/outcome.go"
	attempt = "internal/upstream/attempt.go"
	request = "internal/upstream/request.go"
	stream  = "internal/upstream/stream.go"

	plainTests    = "./gateway -timeout 120s -run Plain"
	serverTests   = "./internal/server -timeout 60s -run Plain|ServerThatEnds|ContextOf|FlushTo|FirstPieces"
	wire1Tests    = "./internal/wire/h1 -timeout 60s"
	upstreamTests = "./internal/upstream"
	streamTests   = "./gateway -timeout 60s -run StreamIs|LongOpening|SilentCaller"
)

const (
	redis     = "mom/redisstore/"
	script    = redis + "scripts/"
	modelTest = "./mom/redisstore -run ^TestModel$ -timeout 120s -rapid.shrinktime=1s -rapid.nofailfile"
)

// store runs a test of the store; some fail by hanging.
func store(test string) string { return "./mom/redisstore -timeout 60s -run ^" + test + "$" }

// table runs the table's cells of some faults.
func table(faults string) string { return "./gateway -run TestTable/.*/^(" + faults + ")$" }

// How calls end.
var ends = []mutant{
	{finish, "	case by == byService:\n		return endBroken\n", "", endTests},
	{finish, "	case by == byDeadline:\n		return endFailed\n", "", endTests},
	{finish, "by == byNobody && v.decided == decidedPass", "by == byNobody", endTests},
	{finish, "by == byNobody && v.decided == decidedPass", "v.decided == decidedPass", endTests},
	{finish, ", res.Trailer.Get(\"Grpc-Status\")", "", endTests},
	{finish, " || status != \"0\"", " || status == \"-\"", endTests},
	{finish, "	default:\n		abort = true\n", "", "./gateway -run HalfClosed|Left"},
}

// endTests are those of the ends alone.
const endTests = "./gateway -run ^TestEndOfAResponse$"

// What an offer to a MOM is taken for, and what follows.
var handOffs = []mutant{
	{reply, "case kind == upstream.NotSent, kind == upstream.Refused:\n		return notReached", "case kind == upstream.NotSent, kind == upstream.Refused:\n		return mayHave", moms("MOMRefused")},
	{reply, "case res.Header.Get(contract.HeaderUnsure) != \"\":\n		return mayHave\n", "", moms("MOMFails")},
	{reply, "return res.StatusCode >= 400 && res.StatusCode < 500 ||", "return", moms("MOMSpeaksOfItself")},
	{reply, " || res.GRPCStatus == unimplemented", "", moms("MOMSpeaksOfItself")},
	{reply, "cannotTake:   {askOther, giveUp,", "cannotTake:   {giveUp, giveUp,", moms("MOMSpeaksOfItself")},
	{reply, "refusedNow:   {askOther, passOn, askOther, askAgain}", "refusedNow:   {askOther, passOn, askOther, passOn}", moms("MOMFails")},
	{reply, "notReached:   {askSoon, askSoon,", "notReached:   {askAgain, askAgain,", moms("MOMRefused")},

	{reply, "case kind == upstream.NotSent && outcome.Cause == upstream.TryTimeout:", "case false:", replies},
	{reply, "case kind == upstream.NotSent, kind == upstream.Refused:", "case kind == upstream.NotSent:", replies},
	{reply, "case outcome.Cause == gatewayDrains:", "case false:", replies},
	{reply, "case refused == contract.RefusedSecret, ", "case ", replies},
	{reply, " && res.Header.Get(contract.HeaderShards) != \"\"", " && false", replies},
	{reply, "refusedNow:   {askOther, passOn, askOther, askAgain}", "refusedNow:   {askOther, passOn, askAgain, askAgain}", replies},
	{reply, "misplaced:    {askSoon, askSoon, askAgain, askAgain}", "misplaced:    {askSoon, askSoon, askAgain, askSoon}", replies},
	{reply, "cannotTake:   {askOther, giveUp, askOther, askAgain}", "cannotTake:   {askOther, giveUp, askOther, giveUp}", replies},
	{reply, "notReached:   {askSoon, askSoon, askAgain, askAgain}", "notReached:   {askSoon, askSoon, askAgain, askSoon}", replies},
	{reply, "slow:         {askAgain, askAgain,", "slow:         {askAgain, askSoon,", replies},
	{reply, "(at.long || at.over)", "at.over", replies},
	{reply, "(next == askOther || next == askAgain)", "next == askAgain", replies},
	{reply, "mayBeStored: tellUnsure", "mayBeStored: tellFailed", replies},
	{handOff, "h.unsure = h.unsure || said >= mayHave", "h.unsure = said >= mayHave", moms("MOMFails")},
	{handOff, "case mom == h.holder && outcome.Cause == upstream.DialRefused:\n		h.lost = time.Time{}", "case false:\n		h.lost = time.Time{}", moms("HoldLostForLong")},
}

// replies are the tests of the table alone.
const replies = "./gateway -run ^Test(Follow|ReplyOf)$"

// breaks is the test of the breaker alone.
const breaks = "./gateway -run ^TestBreaker$"

// moms runs tests of hand-offs.
func moms(test string) string { return "./gateway -timeout 100s -run ^Test" + test + "$" }

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
	{decide, "t.made < min(endpoints, maxTries)", "t.made < min(endpoints, maxTries) && t.budget.spend()", "./gateway -run ManyFindTheOtherEndpoint"},
	{decide, "t.made < min(endpoints, maxTries)", "t.made < maxTries", table("refused-dial")},
	{decide, "t.made < min(endpoints, maxTries)", "false", "./gateway -run OtherEndpoint|ThirdEndpoint"},
	{decide, "ok = ok && t.made == 1", "", table("resource_exhausted.*")},
	{decide, "d <= time.Second\n", "d <= time.Minute\n", table("resource_exhausted.*")},
	{direct, " || !c.rewind()", "", streamTests},
	{direct, "!again || c.late(wait)", "!again", "./gateway -run Deadline"},
	{direct, "(c.late(0) || !p.stores(c))", "(!p.stores(c))", "./gateway -run NothingStoredAfterDeadline"},
	{"gateway/late.go", "	<-ctx.Done()\n", "", "./gateway -run ^TestServiceIsFirstAtTheDeadline$"},
	{"internal/contract/deadline.go", "(max(left, 1)-1)/unit) + 1", "max(left, unit)/unit)", "./internal/contract -run ^TestSetTimeout$"},

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
	{direct, "if counts(last.Kind) && last.Cause", "if last.Cause", table("REFUSED_STREAM")},
	{finish, " && !counts(c.tries.last.Kind)", "", table("unavailable")},
	{"gateway/respond.go", "			_ = controller.Flush()\n			return by, true\n", "			return by, true\n", "./gateway -run BrokenAnswerBegins"},
	{finish, "		c.target.breaker.failed(\"broken-answer\")\n", "", "./gateway -run WhoEnded"},
	{finish, "case answered && by == byService:", "case answered && by != byNobody:", "./gateway -run WhoEnded"},
	{breaker, "b.streak.IsOpen() || b.rate.IsOpen()", "b.streak.IsOpen()", breaks},
	{breaker, "	b.streak.RecordSuccess()\n", "", breaks},
	{breaker, "			one.Close()\n", "", breaks},
	{breaker, "			one.Open() // one", "			// one", breaks},
	{breaker, "breakerWindow).WithDelay(never).OnOpen(opened)", "breakerWindow).WithDelay(never)", breaks},
	{breaker, "	b.failedBy.Store(&cause)\n", "", breaks},
}

// What an attempt came to.
var outcomes = []mutant{
	{"internal/load/reply.go", "case client.TaskFrom(err) != nil:", "case client.TaskFrom(err) == nil:", "./internal/load"},
	{"internal/load/reply.go", " && rpcErr.IsRemote()", "", "./internal/load"},
	{outcome, "case !taken, httpMajor", "case httpMajor", upstreamTests},
	{outcome, "case !taken, httpMajor == 1 && writeFailed(err):", "case !taken:", upstreamTests},
	{outcome, "httpMajor == 1 && writeFailed(err)", "writeFailed(err)", upstreamTests},
	{outcome, "		if taken {\n			return Outcome{Broken, TryTimeout}\n		}\n", "", table("try-timeout")},
	{outcome, "case errors.Is(err, errResend), reset &&", "case reset &&", table("GOAWAY.*below.*|REFUSED_STREAM")},
	{outcome, "errors.Is(cause, ErrDeadline)", "false", "./gateway -run Deadline"},
	{outcome, "case cause != nil:", "case false:", "./gateway -run CallerEnds|Left|BrokenRequest"},
	{request, "GetBody:       func() (io.ReadCloser, error) { return nil, errResend },", "", table("REFUSED_STREAM|GOAWAY.*")},
	{request, "	if b.Len() == 0 {\n		b.taken.Store(true)", "	if b.Len() == 0 {", table("closed-after-the-request")},
	{stream, "if errors.Is(err, io.EOF) || n > 0 && !s.unary {", "if errors.Is(err, io.EOF) {", upstreamTests},
	{stream, "if errors.Is(err, io.EOF) || n > 0 && !s.unary {", "if n > 0 {", upstreamTests},
	{stream, "closed = conn.closed", "_ = conn.closed", streamTests},
	{stream, "			case <-s.over:\n", "", streamTests},
	{stream, "	s.at = 0\n	return s.kept", "	return s.kept", streamTests},
	{stream, "s.kept = s.kept && len(s.head) <= maxOpening", "s.kept = false", streamTests},
	{stream, "s.kept = s.kept && len(s.head) <= maxOpening", "", streamTests},

	{request, "WroteHeaders: func() { sent.taken.Store(true) },", "", "./gateway ./internal/upstream"},

	// The head of a response.
	{outcome, "	case status == http.StatusOK:\n		if strings.HasPrefix(contentType, \"application/grpc\") {", "	case status == http.StatusOK:\n		if false {", table("unavailable")},
	{outcome, "	if !strings.HasPrefix(contentType, \"application/grpc-web\") {", "	if true {", table("grpc-status.*")},
	{outcome, "		if status := res.Header.Get(\"Grpc-Status\"); status != \"\" {\n			return ofStatus(status)\n		}\n", "", upstreamTests},
	{outcome, "	if status := res.Header.Get(\"Grpc-Status\"); status != \"\" {\n		return status // trailers-only\n	}\n", "", upstreamTests},
	{outcome, "return res.Trailer.Get(\"Grpc-Status\")", "return \"\"", table("grpc-status-14-in-trailers")},
	{outcome, "if len(res.head) == 0 {", "if true {", table("grpc-status.*|an-answer")},
	{outcome, "case len(frame) > 0 && frame[0]&trailerFrame == 0:\n			return \"\"\n", "", upstreamTests},
	{outcome, "if strings.HasPrefix(contentType, \"application/grpc-web-text\") {", "if false {", table("grpc-status.*")},
	{outcome, "coding.Decode(res.Header.Get(\"Content-Encoding\"), res.head, maxErrorBody)", "coding.Decode(\"\", res.head, maxErrorBody)", table("unavailable.*")},
	{outcome, "if frame[0]&compressedFrame != 0 {", "if false {", upstreamTests},
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

// What the scripts do to tasks.
var transitions = []mutant{
	{script + "shared/held.lua", "if not task or task.e ~= epoch then", "if not task then", store("TestFencing")},
	{script + "shared/add.lua", "if there(ulid) then", "if redis.call('EXISTS', t) == 1 then", store("TestHalfStored")},
	{script + "shared/add.lua", "if there(other) then", "if redis.call('EXISTS', base .. 't:' .. other) == 1 then", store("TestHalfStored")},
	{script + "shared/add.lua", "    if #ready > 0 then redis.call('RPUSH'", "    redis.call('ZADD', TTL, unpack(ttls))\n    if #ready > 0 then redis.call('RPUSH'", store("TestHalfStored")},
	{script + "shared/add.lua", "added[ulid] or m or n or q", "m or n or q", store("TestOfferedTwiceInATurn")},
	{script + "shared/add.lua", "added[ulid] or m or n or q", "added[ulid]", store("TestNotHalfStored")},
	{script + "shared/add.lua", " or tonumber(v) > NEWEST_RECORD then return true", " then return true", store("TestNotHalfStored")},
	{script + "reap.lua", "    redis.call('ZADD', LEASE, 'NX', now, ulid)\n", "", store("TestRunningWithoutALease")},
	{redis + "keys.go", "		k.all = append(k.all, base+\"none\")\n", "", store("TestClusterSlotMoves")},
	{redis + "check.go", "		if down > 0 && down == len(servers) {", "		if false {", store("TestClusterIsDown")},
	{redis + "check.go", "down > 0 && ", "", store("TestClusterWithoutSlots")},
	{redis + "check.go", "one.denied != \"\"", "false", store("TestCheckNamesMissingRights")},
	{script + "renew.lua", "    redis.call('ZADD', LEASE, now + duration, ARGV[i])\n", "", store("TestRenewKeepsLeases")},
	{script + "shared/finish.lua", "  redis.call('PEXPIREAT', base .. 't:' .. ulid, gone)\n", "", modelTest},
	{script + "shared/finish.lua", "if key then redis.call('PEXPIREAT', key, gone) end", "if key then redis.call('DEL', key) end", store("TestKeyAttachesOrConflicts")},
	{script + "shared/finish.lua", "if key then redis.call('PEXPIREAT', key, gone) end", "", modelTest},
	{script + "shared/finish.lua", "  redis.call('DEL', base .. 'p:' .. ulid)\n", "", modelTest},
	{script + "shared/core.lua", "if size > 0 and redis.call('DECRBY', base .. 'bytes', size) <= 0 then redis.call('DEL', base .. 'bytes') end", "", store("TestFullOfBytes")},
	{script + "shared/finish.lua", "  redis.call('ZADD', GONE, gone, ulid .. ' ' .. task.u)\n", "", modelTest},
	{script + "reap.lua", "if task.m and task.r ~= '1' then", "if false then", store("TestLeaseEndsAfterTheMark")},
	{script + "reap.lua", "  if task.m then\n    task.n = task.n + 1", "  if true then\n    task.n = task.n + 1", store("TestLeaseEndsAfterTheMark")},
	{script + "reap.lua", "  if task.s == S_RUNNING then\n", "  if false then\n", modelTest},
	{script + "reap.lua", "  redis.call('ZREM', base .. 'c:' .. string.sub(member, 28), ulid)\n", "", modelTest},
	{script + "reap.lua", "  redis.call('DEL', base .. 't:' .. ulid)\n", "", modelTest},
	{script + "reap.lua", "if key then redis.call('DEL', key) end", "", store("TestKeyIsFreeAfterTheTombstone")},
	{script + "reap.lua", "elseif redis.call('EXISTS', PAUSED) == 0 then", "elseif false then", store("TestReapRings")},
	{script + "reap.lua", "  if task.s == S_QUEUED then pass_over(ulid, task) end\n", "", modelTest},
	{script + "reap.lua", "      redis.call('LPOP', READY)\n", "", modelTest},
	{script + "reap.lua", "    redis.call('DEL', READY, base .. 'passed')\n", "", modelTest},
	{script + "reap.lua", "waiting and 60000 or -1", "-1", modelTest},
	{script + "shared/mark.lua", "  redis.call('HSET', base .. 't:' .. ulid, 'm', '1')\n", "", store("TestLeaseEndsAfterTheMark")},
	{script + "shared/mark.lua", "  if task.r == '1' then redis.call('HSET', base .. 't:' .. ulid, 'r', '0') end\n", "", store("TestMarkUndeclared")},
	{script + "shared/mark.lua", "if task.r == '1' and task.n > 0 then", "if false then", store("TestMarkUndeclared")},
	{script + "shared/pass_over.lua", " and not task.m)", ")", modelTest},
	{script + "shared/pass_over.lua", "task.n == 0 and (", "(", modelTest},
	{script + "shared/pass_over.lua", "if task.x > now then", "if false then", modelTest},
	{script + "shared/skip.lua", "and redis.call('DECRBY', passed, 1) <= 0", "and true", modelTest},
	{script + "cancel.lua", "if task.s == S_QUEUED then pass_over(ulid, task) end\n", "", modelTest},
	{script + "abandon.lua", "and not is_kept(ulid) ", "", store("TestAbandon")},
	{script + "abandon.lua", " or last_offer(ulid) == offer)", " or true)", store("TestAbandonLost")},
	{script + "abandon.lua", "    if offer ~= '' then redis.call('HSET', t, 'i', '1') end\n", "", store("TestAbandonLost")},
	{script + "keep.lua", "if state and state ~= S_CANCELLED then", "if state then", modelTest},
	{script + "shared/give_back.lua", "if orders[other] > task.o then", "if orders[other] < task.o then", store("TestGivenBackAtTheHead")},
	{script + "shared/give_back.lua", "  redis.call('HDEL', t, 'm', 'd')\n", "", store("TestRelease")},
	{script + "shared/give_back.lua", "  redis.call('ZADD', TTL, task.x, ulid)\n", "", store("TestClockSetBack")},
	{script + "spend.lua", "redis.call('ZADD', TTL, task.x, ulid) -- again: see give_back\n", "", store("TestClockSetBack")},
	{script + "spend.lua", "if attempts >= max_attempts then", "if attempts > max_attempts then", store("TestSpendUntilDead")},
	{script + "spend.lua", "if task.x <= now then", "if false then", store("TestEveryEndLeavesNothing$/expired_when_retried")},
	{script + "shared/settle.lua", ", 'PX', keep)", ")", modelTest},
	{script + "shared/settle.lua", "if m or repeatable == '1' then n = n + 1 end", "n = n + 1", modelTest},
	{script + "shared/settle.lua", "tonumber(keep) + tombstone", "tombstone", modelTest},
	{script + "shared/settle.lua", "  if s == S_SUCCEEDED or s == S_FAILED then return 'OK' end\n", "", store("TestSettle")},
	{script + "shared/settle.lua", "if e ~= epoch then return 'FENCED' end\n", "", store("TestFencing")},
	{script + "shared/settle.lua", "    redis.call('ZREM', TTL, unpack(ended))\n", "", modelTest},
	{script + "shared/settle.lua", "alone(settle, unpack(ARGV, i, i + 5))", "settle(unpack(ARGV, i, i + 5))", store("TestTurnWithADamagedTask")},
	{script + "release.lua", "bring_back(ulid,", "redis.call('HINCRBY', base .. 't:' .. ulid, 'n', 1)\nbring_back(ulid,", store("TestRelease")},
	{script + "shared/give_back.lua", "if task.x <= now then", "if false then", modelTest},
	{script + "take_back.lua", " and task.e == epoch", "", store("TestLostLeasesComeBack")},
	{script + "shared/call.lua", "redis.call('SET', BELL, '', 'NX')", "true", store("TestAttend")},
	{script + "depth.lua", "if queued <= 0 then redis.call('DEL', BELL) end\n", "", store("TestAttend")},
	{script + "shared/say.lua", "if not waited_for then", "if false then", store("TestWhatIsPublished")},
	{script + "shared/add.lua", "    listen(ulid, born)\n", "", store("TestWhatIsPublished")},
	{script + "shared/add.lua", "          listen(other, born)\n", "", store("TestWhatIsPublished")},
	{script + "shared/settle.lua", "listened or told", "told", store("TestWhatIsPublished")},
	{script + "park.lua", "task.n + 1, failure", "task.n, failure", store("TestParkThenRetry")},
	{"mom/redisstore/lease.go", "rand.Int64N(maxEpoch)", "rand.Int64N(1)", store("TestFencing")},
	{"mom/redisstore/attend.go", "leaves := t.attended && !attended && t.relied", "leaves := false", store("TestAttend")},
	{"mom/redisstore/add.go", "\ts.keysOf(task.ID).bell.ring()", "", store("TestKnownTaskRings")},
	{script + "shared/lease.lua", "  if redis.call('EXISTS', PAUSED) == 1 then return {0} end\n", "", modelTest},
	{script + "shared/lease.lua", "n = math.min(n, tonumber(most) - redis.call('ZCARD', LEASE))", "n = math.min(n, tonumber(most))", store("TestLimits")},
	{script + "shared/lease.lua", "n = math.min(n, math.floor(hand))", "", store("TestLimitsOfNewTasks")},
	{script + "shared/lease.lua", "elseif not task or task.s ~= S_QUEUED then", "elseif not task then", modelTest},
	{script + "shared/lease.lua", "string.format('%.6f', math.floor((hand - #taken) * 1e6) / 1e6)", "hand", store("TestRate")},
	{script + "shared/lease.lua", "elseif task.x <= now then", "elseif false then", store("TestExpiresOnTheWayToItsLease")},
	{script + "shared/lease.lua", "for i = #left, 1, -1 do redis.call('LPUSH', READY, left[i]) end\n", "", store("TestTasksBehindThoseOfANewerRelease")},
	{"mom/refuse.go", "if task.KeyHash != \"\" {", "if false {", "-run IntakeRefuses ./mom"},
	{"mom/renumber.go", "if int64(place) < l.Running%int64(n) {", "if true {", "-run ShareOfLimits ./mom"},
	{"internal/upstream/alpn.go", " && !e.versions.yes[of(1)].Load() && e.versions.allowed(2) && e.picksHTTP2()", " && false", "-run PickNoProtocol ./internal/upstream"},
	{"internal/upstream/alpn.go", "state.NegotiatedProtocol == \"\" &&", "", "-run PickNoProtocol ./internal/upstream"},
	{"internal/upstream/silent.go", "			e.cutDead()\n", "", "-timeout 60s -run DeadConnection ./internal/upstream"},
	{redis + "check.go", "	s.granted.Store(false)\n", "", store("TestCheckNamesMissingRights")},
	{"internal/upstream/ask.go", " || !connect.IsWireError(err)", "", "-run ^TestHealth$ ./internal/upstream"},
	{"internal/upstream/ask.go", "(code == connect.CodeUnimplemented || !connect.IsWireError(err))", "!connect.IsWireError(err)", "-run ^TestHealth$ ./internal/upstream"},
	{"internal/logbuffer/buffer.go", "if len(b.waiting)+len(line) > room {", "if false {", "-run StandsStill ./internal/logbuffer"},
	{"cmd/cmd.go", "	signal.Ignore(syscall.SIGPIPE)\n", "", "-run LogReaders/is_gone -timeout 100s ./e2e"},
	{"mom/refusal.go", "s.others = s.others || s.task != task", "s.others = false", "-run Shedding ./mom"},
	{"mom/refusal.go", "&& (r.told || s.others)", "", "-run Shedding ./mom"},
	{script + "shared/lease.lua", "(again >= 0 or not put_back)", "true", store("TestRefusedTasksLetOthersPass")},
	{script + "shared/lease.lua", " or task.t > 0 and again < 0 then", " then", store("TestRefusedTasksLetOthersPass")},
	{"mom/replayer.go", "r.fresh = r.fresh || one.flight.lease.PutBack > 0", "", "-run ReplayOfRefusals ./mom"},
	{"mom/replayer.go", "r.heard, r.fresh = time.Now(), false", "r.heard = time.Now()", "-run ReplayOfRefusals ./mom"},
	{script + "shared/lease.lua", "if vacant then straight = n end", "straight = n", modelTest},
	{script + "shared/hold.lua", "text(now + duration), ulid", "text(now), ulid", modelTest},
	{script + "shared/retry.lua", "'n', 0, 'q', earlier", "'q', earlier", store("TestParkThenRetry")},
	{script + "shared/retry.lua", "'x', now + task.l)", "'x', task.x)", modelTest},
	{script + "shared/add.lua", "if open >= max_queued then return {'FULL', 'tasks'} end\n", "", store("TestQueueFull")},
	{script + "shared/add.lua", "if bytes - parked + size > max_bytes then return {'FULL', 'bytes'} end\n", "", store("TestFullOfBytes")},
	{script + "shared/add.lua", "if memory == 'full' then return {'FULL', 'memory'} end\n", "", store("TestFullOfMemory")},
	{script + "shared/add.lua", "if first == fingerprint or first == twin then", "if true then", store("TestKeyAttachesOrConflicts")},
	{script + "shared/add.lua", " or first == twin", "", store("TestReusedKeyTellsOfTheFirst")},
	{script + "shared/add.lua", "if expires and not anew then\n", "if false then\n", store("TestAddTwiceStoresOnce")},
	{script + "shared/add.lua", "  if kept == '1' then redis.call('HSET', t, 'g', '1') end\n", "", modelTest},
	{script + "shared/add.lua", "epoch or last_epoch or '0'", "epoch or '0'", store("TestAbandonLost")},
	{script + "shared/add.lua", " and (repeatable == '1' or once >= 1)", "", modelTest},
	{script + "shared/add.lua", "    if repeatable ~= '1' then once = once - 1 end\n", "", store("TestNewTasksThatMayRunOnce")},
	{script + "shared/add.lua", "    straight = straight - 1\n", "", modelTest},
	{script + "shared/add.lua", "if not refusal then redis.call('SET', key, own_name) end", "", store("TestKeyWithoutItsTask")},
	{script + "shared/add.lua", "if tonumber(offer) > tonumber(rare().last_offer(ulid)) then", "if true then", store("TestAbandonLost")},
	{script + "shared/add.lua", "if there(other) then", "if true then", store("TestKeyWithoutItsTask")},
	{script + "shared/core.lua", "  redis.call('PUBLISH', base .. 'events', ulid .. ' ' .. state)\n", "", store("TestWatchHearsEachTransition")},
	{script + "shared/core.lua", "x = tonumber(x) or 0", "x = tonumber(x)", store("TestDamagedRecords")},
	{script + "shared/core.lua", "if not version or version < 1 or version > NEWEST_RECORD then", "if false then", store("TestUnknownRecordVersion")},
	{script + "pause.lua", "  ring()\n", "", store("TestBellRings")},
	{redis + "scripts.go", "place := len(s.args) + 1", "place := len(s.args) + 2", store("TestSettle")},
	{redis + "scripts.go", "case isNumber:", "case isNumber && place == 0:", store("TestQueueFull")},
	{redis + "run.go", " || len(given) != len(s.args)", "", store("TestScriptsRefuseOtherArguments")},
	{redis + "errors.go", "	\"FENCED\":  mom.ErrFenced,\n", "", store("TestFencing")},
	{redis + "bulk.go", "bulkBatch = 25", "bulkBatch = 1000", store("TestBulkOfEnds")},
	{script + "shared/lease.lua", "    passes = passes + BATCH / BULK\n", "", store("TestLeaseBehindABulk")},
	{script + "shared/unpark.lua", "if there < since then", "if there > since then", store("TestParkedLeaveFromAnywhere")},
	{script + "shared/unpark.lua", "DEAD) > SHORT then index = place(ulid) end", "DEAD) > SHORT then end", store("TestParkedLeaveFromAnywhere")},
	{script + "shared/unpark.lua", "    redis.call('INCRBY', base .. 'holes', 1)\n", "", store("TestParkedLeaveFromAnywhere")},
	{script + "shared/unpark.lua", "if other == ulid then return", "if true then return", store("TestParkedLeaveFromAnywhere")},
	{script + "shared/unpark.lua", "    there = redis.call('LREM', DEAD, 1, ulid) == 1\n", "", store("TestParkedLeaveOutOfOrder")},
	{script + "count_parked.lua", "    holes = holes + 1\n", "", store("TestParkedLeaveFromAnywhere")},
	{script + "restore.lua", "if before and task.r ~= '1' then", "if before then", store("TestRestore")},
	{script + "restore.lua", "task and task.o / 1000 < started", "task", store("TestRestore")},
	{script + "restore.lua", "if known then return end", "", store("TestRestore")},
	{script + "restore.lua", "  if before then seen(ulid) end\n", "", store("TestRestore")},
	{script + "restore.lua", "if task.s == S_QUEUED then redis.call('INCRBY', base .. 'passed', 1) end", "", store("TestRestore")},
	{script + "restore.lua", "    from_open = from_open + 1\n", "    from_open = from_open + 2\n", store("TestRestore")},
	{"mom/watch.go", "if shared == nil || shared.old() {", "if true {", "./e2e -timeout 100s -run ^TestManyWatchQueues$"},
}

// mom runs a test of the MOM's parts.
// ofMOM are the tests of what comes to the MOM, and is said there.
const ofMOM = "./mom -timeout 60s -run TestPlain|TestSaid"

func mom(test string) string { return "./mom -timeout 60s -run ^" + test + "$" }

// When tasks go to their service, what follows from an attempt, and who is held for how long.
var replays = []mutant{
	{"mom/attempt.go", "case res.unsent():", "case false:", mom("TestAttempt")},
	{"mom/attempt.go", "case lease.Repeatable:", "case true:", mom("TestAttempt")},
	{"mom/attempt.go", "min(firstBackoff<<min(lease.Attempts, 10), maxBackoff)", "firstBackoff", mom("TestAttempt")},
	{"mom/attempt.go", "		if !errors.Is(err, ErrFenced) {\n			a.unmark", "		if true {\n			a.unmark", mom("TestAttemptIsNotRecorded")},
	{"mom/sender.go", "r.outcome.Kind == upstream.NotSent || ", "", mom("TestAttempt")},
	{"mom/persist.go", "errors.Is(err, ErrFenced), !time.Now().Before(until)", "errors.Is(err, ErrFenced)", mom("TestPersist")},
	{"mom/persist.go", "&& !errors.Is(err, ErrQueueFull)", "", mom("TestPersist")},
	{"mom/persist.go", "		default:\n			alone = 0\n", "		case others != nil:\n			alone++\n", mom("TestPersist")},
	{"mom/replayer.go", "			r.rest = r.failed.Add(failPause)\n", "", mom("TestReplayRestsAfterAFailedCanary")},
	{"mom/replayer.go", "	case !one.up && !one.unsent && r.othersDoWell(one.flight): // it is the task\n", "", mom("TestReplayBlamesTheTask")},
	{"mom/replayer.go", "	case one.refused:\n		r.pace.reset()\n", "", mom("TestReplayOfRefusals")},
	{"mom/replayer.go", "		r.pace.stuck()\n", "", mom("TestReplayPassesSlowTasks")},
	{"mom/replayer.go", "time.AfterFunc(drainTime, cut)", "time.AfterFunc(2*drainTime, cut)", mom("TestReplayDrains")},
	{"mom/flights.go", " && f.lease.Epoch == lost.Epoch", "", mom("TestRenewalEndsLostAttempts")},
	{"mom/reaper.go", "due.Before(r.due)", "true", mom("TestReaperOfAQuietShard")},
	{"mom/reaper.go", "			r.within(heardPause)\n", "", mom("TestReaperOfAStoreThatIsAway")},
	{"mom/demand.go", "time.Since(d.asked) >= demandPause && ", "", mom("TestDemandAsksOnlyInDoubt")},
	{redis + "turns.go", "again = append(again, one) // it was refused for the new tasks", "one.end(replies[i], err)", store("TestTurnInAFullRedis")},
	{redis + "turns.go", "case removed:", "case removed && false:", store("TestLeavesBeforeItsTurn")},
	{redis + "turns.go", "case one.kind == aLease:", "case false:", store("TestLeasesAreHandedOver")},
	{"mom/waiters.go", "w.ends && contract.IsOpen(state) || ", "", mom("TestWaiters")},
	{"mom/waiters.go", "promised && answer == nil", "promised && false", mom("TestWaitersArePromisedAnAnswer")},
	{"mom/attempt.go", "		a.waiters.takeBack(lease.ID)\n", "", mom("TestAnswerIsTakenBack")},
	{"mom/replayer.go", "	r.empty = !more\n", "	r.empty = false\n", "./e2e -run TestRoundTrips"},
	{"mom/hold.go", "!task.Kept && ", "", mom("TestHoldIsLost")},
	{"mom/hold.go", "until.Add(-gatewaysClock)", "until", mom("TestHoldIsLost")},
	{"mom/hold.go", "h.callers.Add(1) > int64(h.limit)", "false", mom("TestHoldIsCutShort")},
	{"mom/check.go", "late && errors.Is(err, ErrUnavailable)", "errors.Is(err, ErrUnavailable)", mom("TestReadiness")},
	{"mom/look.go", " || there && epoch != is.Epoch\n", "\n", mom("TestShardsOfOtherMOMs")},
	{"mom/request.go", "case (r.JSON || first.JSON) && r.known() == first.known():", "case false:", mom("TestRequestsAreCompared")},
}

// Who is taken for a gateway, and who for an operator.
var trust = []mutant{
	{"mom/admit.go", "case !m.cfg.Secret.Take(r.Header) && !server.IsHealth(r):", "case !m.cfg.Secret.Take(r.Header) && !server.IsHealth(r) && false:", "./mom -run ^TestStrangersAndOperators$"},
	{"mom/admit.go", " && contract.Foreign(r) == \"\"", "", "./mom -run ^TestWhoIsAnOperator$"},
	{"mom/admit.go", "case contract.IsOperators(r.URL.Path):", "case false:", "./mom -run ^TestWhoIsAnOperator$"},
	{"gateway/introduce.go", "	p.secret.Show(r.Header)\n", "", "./gateway -run ^TestSecretIsShown$"},
	{"gateway/offer.go", "line{contract.HeaderSecret, p.secret.Line()}, ", "", "./gateway -run ^TestSecretIsShown$"},
	{"internal/secret/secret.go", "	delete(header, contract.HeaderSecret)\n", "", "./internal/secret"},
	{"internal/contract/operators.go", "		if origin != \"http://\"+r.Host {", "		if origin != \"http://\"+r.Host && false {", "./internal/server -run ^TestAdminRefusesForeignRequests$"},
	{"internal/contract/operators.go", "	if !ownHost(r) {", "	if false {", "./internal/server -run ^TestAdminRefusesForeignRequests$"},
}

// Calls of services that do not speak as their callers do.
var bridges = []mutant{
	{"gateway/direct.go", "		case outcome.Foreign():\n			return bridge.Foreign\n", "", "./gateway -run ^TestBridgeFromGRPC$"},
	{"gateway/direct.go", "lost && !crosses", "lost && (true || crosses)", "./gateway -run ^TestBridgedCallsAreStored$"},
	{"gateway/decide.go", "		if errors.As(c.tries.err, &err) {\n			return err", "		if errors.As(c.tries.err, &err) && false {\n			return err", "./gateway -run ^TestBridgeRefuses$"},
	{"mom/sender.go", "			if res.foreign {\n				return bridge.Foreign\n			}\n", "", mom("TestAttempt")},
	{"mom/sender.go", "				return bridge.Lossy\n", "				return bridge.Understood\n", mom("TestAttempt")},
	{"gateway/direct.go", "		case outcome.Cause == bridge.LossyMessage:\n			return bridge.Lossy\n", "", "./gateway -run ^TestBridgeIsNotForEver$"},
	{"internal/bridge/message.go", "		if !less {\n", "		if false {\n", "./internal/bridge -run ^TestBridgeLosesNothingUnasked$"},
	{"internal/bridge/lenient.go", "		res.StatusCode = http.StatusOK\n", "", "./internal/bridge -run ^TestBridgeReadsStatus$"},
	{"internal/bridge/bridge.go", "case ctx.Err() != nil, x.body.BrokeOff(err):", "default:", "./internal/bridge -run ^TestBridgeCannotReadAnswer$"},
	{"internal/upstream/protocol.go", "!e.failsSo(ctx, 2,", "!e.failsSo(ctx, 2, nil, \"\", res) || !e.failsSo(ctx, 2,", "./internal/upstream -run ^TestErrorsOfGRPCServers$"},
	{"internal/bridge/bridge.go", "x.outcome, x.err = upstream.BrokeOff(ctx, err), err", "", "./internal/bridge -run ^TestBridgeClassifies$"},
	{"internal/bridge/bridge.go", "x.to.Protocol != connect.ProtocolNameConnect, left", "false, left", "./internal/bridge -run ^TestBridgePassesAll$"},
	{"internal/bridge/bridge.go", "range timeouts {", "range timeouts[:0] {", "./internal/bridge -run ^TestBridgeClassifies$"},
	{"internal/bridge/bridge.go", "	pass(caller.ResponseTrailer(), service.ResponseTrailer().All())\n", "", "./internal/bridge -run ^TestBridgePassesAll$"},
	{"internal/upstream/protocol.go", "	case said.Protocol != AnyProtocol && said.Protocol != spoken:\n		return UnknownProtocol, true\n", "", "./internal/upstream -run ^TestOnlyProtocol$"},
	{"internal/upstream/protocol.go", "		e.lacksOne(lack)\n		return true\n	}\n	if !e.gone", "	}\n	if !e.gone", "./gateway -run ^TestStreamsAcrossToCareless$"},
	{"internal/bridge/bridge.go", "		x.piped.breakOff(err)\n", "", "./gateway -run ^TestStreamsAcrossBreak$"},
	{"internal/bridge/stream.go", "			if up <- err; err != nil {\n				cancel()\n			}", "			up <- err", "./gateway -timeout 60s -run ^TestStreamsAcrossEnd$"},
	{"gateway/direct.go", "		if !c.rewind() {\n			return bridge.Understood // there is nothing left to be tried\n		}\n", "", "./gateway -run ^TestStreamsAcross$"},
	{"internal/route/learn.go", "!s.Learns(service) || ", "", "./internal/route -run ^TestLearn$"},
	{"internal/route/learn.go", "!s.now().none[service] && ", "", "./internal/route -run ^TestLearn$"},
	{"internal/upstream/protocol.go", "inGRPC && !isJSON(mediaType)", "inGRPC", "./internal/upstream -run ^TestErrorsOfGRPCServers$"},
	{"gateway/direct.go", "	case next == fail && last.Cause == bridge.Malformed:\n		return verdict{end: endRefused, decided: decidedFail, res: res}\n", "", "./gateway -run ^TestBridgeTellsOfMalformed$"},
}

// What our HTTP says was sent, and takes for an answer or for a call; and calls that cross without connect.
var wires = []mutant{
	{"internal/bridge/plain.go", "body[0] != plain || ", "", "./internal/bridge -run ^TestPlainIsAsConnect$"},
	{"internal/bridge/plain.go", `status[0] == "0"`, "true", "./internal/bridge -run ^TestPlainIsAsConnect$"},
	{"internal/bridge/plain.go", " != int64(len(body)-envelopeHead)", " > int64(len(body)-envelopeHead)", "./internal/bridge -run ^TestPlainIsAsConnect$"},
	{"internal/bridge/plain.go", `			res.Header["Trailer-"+key] = values` + "\n", "", "./internal/bridge -run ^TestPlainIsAsConnect$"},
	{"internal/wire/h1/transport.go", "c.unused() && c.Peek() == wire.Nothing", "true", "./internal/wire/h1 -run ^TestClosedWhileIdle$"},
	{"internal/wire/h1/transport.go", " && x.c.in.Buffered() == 0", "", "./internal/wire/h1 -run ^TestTooMuch$"},
	{"internal/wire/h2/conn.go", "s.from >= c.handed", "false", "./internal/wire/h2 -run ^TestUnsent$"},
	{"internal/wire/h2/conn.go", "s.from >= c.handed", "true", "./internal/wire/h2 -run ^TestOutcomes$"},
	{"internal/wire/h2/conn.go", "if id > last {", "if id >= last {", "./internal/wire/h2 -run ^TestOutcomes$"},
	{"internal/wire/h2/frames.go", "f.room < 0 {", "false {", "./internal/wire/h2 -run ^TestTooMuchData$"},
	{"internal/wire/h2/frames.go", " || l.blockN > maxFragments+l.maxBlock/maxFrame", "", "./internal/wire/h2 -timeout 20s -run ^TestMalformed$"},
	{"internal/wire/h2/flow.go", "max(0, min(int64(len(part)), l.window, f.window, maxFrame))", "min(int64(len(part)), maxFrame)", "./internal/wire/h2 -run ^TestWindows|TestObeysWindows$"},
	{"internal/wire/h2/flow.go", "!f.sent && len(f.l.out) > maxUnwritten", "false", "./internal/wire/h2 -run ^TestNobodyReads$"},
	{"internal/wire/h2/frames.go", "		l.giveBack(len(f.in) - f.at)\n", "", "./internal/wire/h2 -timeout 20s -run ^TestUnreadBodies$"},
	{"internal/wire/h2/caller.go", "c.running >= c.server.MaxStreams", "len(c.streams) >= c.server.MaxStreams", "./internal/wire/h2 -run ^TestRefusesCalls$"},
	{"internal/wire/h2/caller.go", "	if c.leaving {\n		return nil\n	}\n	c.last", "	c.last", "./internal/wire/h2 -run ^TestLeaves$"},
	{"internal/wire/h2/caller.go", "!c.block.IsZero() && over(c.block, limits.HeaderTimeout)", "false", "./internal/wire/h2 -timeout 20s -run ^TestSilentClients$"},
	{"internal/wire/h2/response.go", " && len(body) == 0 && !trailers {", " && false {", "./internal/wire/h2 -run ^TestAsNetHTTP$"},
	{"internal/wire/h2/transport.go", "				return nil, err\n			}\n		}\n", "				return nil, err\n			}\n			continue\n		}\n", "./internal/wire/h2 -run ^TestEndsAtOnce$"},
}

// Calls that go without the types of net/http.
var plains = []mutant{
	{"gateway/plain.go", `call.async && prefer != "respond-async"`, "false", plainTests},
	{"gateway/plain.go", "			encoded = true\n", "			encoded = false\n", plainTests},
	{"gateway/plain.go", `key != "" && call.key == ""`, "false", plainTests},
	{"gateway/plain.go", "		if !first.async {\n", "		if false {\n", plainTests},
	{"gateway/proxy.go", "first.async, !first.async, first.Body", "first.async, false, first.Body", plainTests},
	{"gateway/plainoffer.go", `"holdline-refused", `, "", plainTests},
	{"gateway/plainoffer.go", `f.Name == "connect-timeout-ms" && !call.grpc`, `f.Name == "connect-timeout-ms"`, plainTests},
	{"gateway/handoff.go", "h.id, began = first.id, first.Came", "h.id, began = c.target.newTaskID(c.req.URL.Path, c.key), first.Came", plainTests},
	{"mom/hold.go", "(look || !soon)", "!soon", "-run TestGatewayHearsOfAHold ./mom"},
	{"mom/hold.go", "			over.Reset(time.Until(until))\n", "", "-run TestGatewayHearsOfAHold|TestHoldEnds ./mom"},
	{"gateway/plain.go", "time.Until(call.deadline) <= 0", "false", plainTests},
	{"mom/notice.go", "			return over\n", "			return err\n", "-run TestTimeIsOver ./mom"},
	{"mom/intake.go", `task.Cause == "" && `, "", "-run TestGatewayHearsOfAHold ./mom"},
	{"mom/incoming.go", "sorted[to].Name == sorted[from].Name", "to == from", ofMOM},
	{"mom/incoming.go", "	h.Delete(key)\n", "", ofMOM},
	{"mom/incoming.go", "		if !slices.ContainsFunc(list,", "		if slices.ContainsFunc(list,", ofMOM},
	{"mom/plain.go", "tell(ctx, m.once, m.take(ctx, method, x), method.Procedure, x.protocol, &x.said, &x.trailer)", "m.take(ctx, method, x)", ofMOM},
	{"mom/notice.go", `protocol != connect.ProtocolNameConnect && task != ""`, "false", ofMOM},
	{"mom/intake.go", "context.WithDeadline(ctx, task.Until)", "context.WithCancel(ctx)", ofMOM},
	{"mom/intake.go", "info.ResponseTrailer().Add(h.Name, h.Value)", "_ = h", ofMOM},
	{"internal/bridge/serve.go", "		if again {\n", "		if again && f.Name != \"cookie\" {\n", ofMOM},
	{"internal/bridge/serve.go", "		if again {\n", "		if again && f.Name != timeout {\n", ofMOM},
	{redis + "turns.go", "	case <-timer.C:\n", "", store("TestTimeOfATurnIsOver")},
	{redis + "turns.go", "		most = min(most, time.Until(one.until))\n", "", store("TestTimeOfATurnIsOver")},
	{"gateway/plain.go", "\t\t\t\tw.Header().Set(\"Vary\", \"Origin\")\n", "", plainTests},
	{"gateway/plain.go", "\t\tres.Until = call.deadline.Add(deadlineGrace + lastWords)\n", "", plainTests},
	{"gateway/plain.go", "\tres.Header, res.Trailers = withoutHop(res.Header), withoutHop(res.Trailers)\n", "", plainTests},
	{"gateway/plain.go", "\t\tleft := max(time.Until(call.deadline), 1)\n", "\t\tleft := time.Hour\n", plainTests},
	{"gateway/direct.go", "if len(tried) == 0 && begun != nil {", "if false {", plainTests},
	{"internal/upstream/plain.go", `, status != "0"`, ", false", plainTests},
	{"internal/upstream/plain.go", `ofStatus(status).Kind == Answered`, "true", plainTests},
	{"internal/upstream/plain.go", `res.Status != http.StatusUnsupportedMediaType && !saysTryAgain(res.Status)`, "!saysTryAgain(res.Status)", plainTests},
	{"internal/upstream/plain.go", ` && !saysTryAgain(res.Status)`, "", plainTests},
	{"internal/upstream/plain.go", `if status != "" && len(res.Body)+len(res.Trailers) > 0 {`, "if false {", plainTests},
	{"internal/upstream/plain.go", "\tb.sent.taken.Store(true)\n", "", plainTests},
	{"internal/upstream/plain.go", "max(timeout-time.Since(b.at), 1)", "time.Hour", plainTests},
	{"internal/wire/h2/plain.go", "s.err == nil && len(s.early) == 0 && ", "s.err == nil && ", plainTests},
	{"internal/upstream/attempt.go", " && !res.begins() {", " && false {", table("reset-after-the-headers")},
	{"internal/upstream/plain.go", ` || len(res.Trailers) > 0:`, ":", plainTests},
	{"gateway/plain.go", "\t\t\tfirst.Body = readWhole(r.Body) ", "\t\t\t_ = readWhole ", plainTests},
	{"internal/wire/h1/plain.go", "if cookies > 1 {", "if cookies > 9 {", plainTests},
	{"internal/wire/h1/plain.go", " || !httpguts.ValidHeaderFieldValue(line)", " || httpguts.ValidHeaderFieldValue(\"\\n\")", wire1Tests},
	{"internal/wire/h1/plain.go", " && status < http.StatusBadRequest", " && status < http.StatusMultipleChoices", wire1Tests},
	{"internal/wire/nonblocking_unix.go", "if n == 0 && err == nil && len(p) > 0 {", "if false {", "-run TestNonBlocking ./internal/wire"},
	{"internal/wire/nonblocking_unix.go", "len(t.rest) == 0 {", "true {", "-run TestNonBlocking ./internal/wire"},
	{"internal/wire/room.go", "	copy(larger, b)\n", "", "-run TestRoom ./internal/wire"},
	{"internal/wire/h2/flow.go", "!f.lent", "true", "-race -run TestBrokenPlainCallIsSentAgain ./gateway"},
	{"internal/upstream/version.go", "c.major == 1 && settings,", "c.major == 1 && (settings || begin[0] == ofFrame),", "-run NoHTTP ./internal/upstream"},
	{"gateway/direct.go", "c.unary() && !c.req.Ordinary() && ", "false && ", "-run BridgeWritesPlainly ./gateway"},
	{"gateway/direct.go", " && p.bridge.Speaks(caller)", "", "-run BridgeOfAllTypes ./gateway"},
	{"gateway/direct.go", "now := way == caller && !asCame", "now := false", "-run BridgeLeavesOthersAlone ./gateway"},
	{"mom/tasks.go", "w.Header().Del(contract.HeaderTask) //", "//", "-run ErrorsOfTheStore ./mom"},
	{"gateway/handoff.go", "h.tellApplied(res.Header)", "", "-run PreferenceApplied ./gateway"},
	{"internal/upstream/protocol.go", "return ok && major == 2 &&", "return false &&", "-run ErrorsOfGRPCServers ./internal/upstream"},
	{"gateway/direct.go", "outcome = upstream.Outcome{} // an error", "// an error", "-run KeptErrors ./gateway"},
	{"internal/upstream/version.go", " && n == 1", "", "-run BrokenCall ./internal/upstream"},
	{"gateway/plain.go", "if first.Failed {", "if false {", plainTests},
	{"internal/wire/h1/plain.go", "if len(c.ahead.unread()) > 0 || c.ahead.err != nil {", "if c.ahead.err != nil {", wire1Tests},
	{"internal/wire/h1/server.go", "if c.plain && len(p) == c.room {", "if c.plain {", wire1Tests},
	{"internal/wire/h1/server.go", "c.head.chunked || ", "", wire1Tests},
	{"internal/wire/h1/server.go", "come == wire.End || ", "", wire1Tests},
	{"internal/wire/h1/server.go", "return c.state.Load() == leaving || c.server.leaving.Load() || c.server.Last != nil && c.server.Last()", "return false", serverTests},
	{"internal/wire/h1/server.go", "case s == closed, s == leaving,", "case s == closed,", wire1Tests},
	{"internal/wire/h1/server.go", " || c.offered.Load()", "", wire1Tests},
	{"internal/server/own.go", " && !o.h1.Busy()", "", serverTests},
	{"internal/wire/h1/head.go", "return had == \"\" && value != \"\" && httpguts.ValidHostHeader(value)", "return had == \"\"", wire1Tests},
	{"internal/wire/h1/head.go", "		if h.length >= 0 {\n			return false\n		}\n", "", wire1Tests},
	{"internal/wire/h1/head.go", " || len(line) > maxSizeLine", "", wire1Tests},
	{"internal/wire/h1/head.go", "case \"trailer\", \"upgrade\", \"expect\":", "case \"trailer\":", wire1Tests},
	{"internal/wire/h1/head.go", "return strings.EqualFold(value, \"keep-alive\")", "return true", wire1Tests},
	{"internal/server/serve.go", "handler, begun = h, true", "begun = true", serverTests},
	{"internal/server/own.go", ", Last: s.leaving.Load", "", serverTests},
	{"internal/wire/h1/server.go", "n > len(\"PR\")", "n > len(\"P\")", serverTests},
	{"internal/server/leave.go", "	return http.NewResponseController(w.ResponseWriter).Flush()\n", "	_ = http.NewResponseController(w.ResponseWriter).Flush()\n	return nil\n", serverTests},
	{"internal/server/serve.go", "beyond || r.ProtoMajor == 1 || s.leaving.Load()", "beyond || s.leaving.Load()", serverTests},
	{"internal/server/serve.go", "		defer last.say() // the handler may write nothing\n", "", serverTests},
	{"internal/server/conn.go", "context.WithValue(context.Background(), http.ServerContextKey, s.http)", "context.Background()", serverTests},
}

// What follows when the files of routes and schemas have changed.
var reloads = []mutant{
	{"internal/reload/reload.go", "quiet && same(now, one.last), now", "quiet, now", "./internal/reload"},
	{"internal/reload/reload.go", "sha256.Sum256(raw) != one.sum", "len(raw) > 0", "./internal/reload"},
	{"internal/reload/reload.go", "		f.failed.Set(0)\n", "", "./internal/reload"},
	{"internal/route/learn.go", "next.none[service] || next.Given(service)", "next.Given(service)", "./internal/route -run ^TestReplace$"},
	{"internal/route/learn.go", "next.none[service] || next.Given(service)", "next.none[service]", "./internal/route -run ^TestReplace$"},
	{"internal/upstream/configure.go", "p.forget() // and", "// and", "./internal/upstream -run ^TestConfigure$"},
	{"internal/upstream/configure.go", "	if fresh {\n		p.forget()", "	if true {\n		p.forget()", "./internal/upstream -run ^TestConfigure$"},
	{"internal/upstream/configure.go", "s == nil || s.HTTP != next.HTTP", "s == nil", "./internal/upstream -run ^TestConfigure$"},
	{"internal/upstream/configure.go", "gone := idle[p] && !p.Busy()", "gone := !p.Busy()", "./internal/upstream -run ^TestLeaving$"},
	{"internal/upstream/resolve.go", "if p.says.Load() != said {", "if false {", "./internal/upstream -run ^TestConfigureDuringLookup$"},
	{"mom/shards.go", "		p.sending.end()\n", "", mom("TestReplace")},
}
