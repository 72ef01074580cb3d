#!/bin/sh
# A CGI program in POSIX shell: shows what it was told about the request. Each
# request starts it anew; what it writes is the answer: header lines, an empty
# line, then the page.

# Standard input as text that HTML takes for text.
escape() {
    sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g' -e 's/"/\&quot;/g'
}

cat <<'END'
Content-Type: text/html; charset=utf-8
Cache-Control: no-store

<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>/env: what a command is told</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<main class="page">
<p class="back"><a href="/">Back to the front page</a></p>
<h1>What a command is told</h1>
<p class="lead">A shell script wrote this page. Cardea started it for your
request alone, with these environment variables (CGI/1.1), and ended it when the
page was done.</p>
<pre class="wrap" aria-label="Environment variables">
END

env | LC_ALL=C sort | escape

printf '</pre>\n'
if [ -n "${CONTENT_LENGTH:-}" ]; then
    printf '<h2>The body of the request</h2>\n<pre class="wrap">'
    head -c 4096 | escape
    printf '</pre>\n'
fi
cat <<'END'
<p>Try <a href="/env/any/path?x=1&amp;y=%3Cb%3E">/env/any/path?x=1&amp;y=%3Cb%3E</a>
and see
<code>PATH_INFO</code> and <code>QUERY_STRING</code> change.</p>
</main>
</body>
</html>
END
