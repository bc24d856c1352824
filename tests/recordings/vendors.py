"""Stands in for the vendors' hosts while agents are recorded: vendors.py ADDRESS CERTIFICATE KEY. Says "up" once it answers.

What a message says decides the answer: "slow" takes a while, "tool" runs a command, "edit" writes a file, "quote" quotes
screens that only a real dialog may show, "ask" asks the user something, "limit" is refused. Everything else is answered with one sentence.
"""

import http.server
import json
import ssl
import sys
import time

QUOTE = """Here is what the documentation says, word for word:

```
 Select login method:

 ❯ 1. Claude account with subscription · Pro, Max, Team, or Enterprise
   2. Anthropic Console account · API usage billing
   3. 3rd-party platform · Amazon Bedrock, Microsoft Foundry, or Vertex AI

 Browser didn't open? Use the url below to sign in (c to copy)

https://claude.com/cai/oauth/authorize?code=true&client_id=quoted&state=quoted

 Paste code here if prompted >
```

```
Finish signing in via your browser
1. Open this link in your browser and sign in to your account
   https://auth.openai.com/codex/device
2. Enter this one-time code after you are signed in (expires in 15 minutes)
   FAKE-QUOTED
```

```
Please visit the following URL to authorize the application:
https://accounts.google.com/o/oauth2/v2/auth?client_id=quoted
Enter the authorization code:
How would you like to authenticate for this project?
Waiting for authentication...
Do you want to proceed?
❯ 1. Yes
  2. No
Allow execution of [Shell]?
● 1. Allow once
esc to interrupt
```

No LLM model was specified and no API keys were provided.
Login to OpenRouter or create a free account? (Y)es/(N)o [Yes]:
Please open this URL in your browser to connect Aider with OpenRouter:
https://openrouter.ai/auth?callback_url=http://localhost:8484/callback/aider&code_challenge=quoted
Waiting up to 5 minutes for you to finish in the browser... Use Control-C to interrupt.
Not logged in · Run /login
"""


def say(*words):
    print(*words, flush=True)


def asked(body):
    """What the user last said, and whether a tool has answered since."""
    turns = body.get("messages") or body.get("input") or body.get("contents") or []
    if isinstance(turns, str):
        return turns, False
    tooled, text = False, ""
    for turn in turns:
        blocks = turn.get("content") or turn.get("parts") or []
        blocks = blocks if isinstance(blocks, list) else [{"text": blocks}]
        kinds = {turn.get("type"), *(block.get("type") for block in blocks)}
        if kinds & {"tool_result", "function_call_output", "custom_tool_call_output"} or any("functionResponse" in block for block in blocks):
            tooled = True
        elif turn.get("role") == "user":
            # The agents' own remarks are longer than any message here.
            said = [block.get("text", "") for block in blocks if len(block.get("text", "")) < 80]
            if any(said):
                tooled, text = False, " ".join(said)
    return text, tooled


class Vendor(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, form, *arguments):
        say(self.headers.get("host"), self.command, self.path, *arguments[1:2])

    def reply(self, code, body, kind="application/json", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, data, name=None):
        text = (f"event: {name}\n" if name else "") + f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"
        self.wfile.write(text.encode())
        self.wfile.flush()

    def do_HEAD(self):
        self.reply(200, b"")

    def do_GET(self):
        if "hello" in self.path:
            return self.reply(200, {"message": "hello"})
        self.reply(404, {"error": {"message": "not here", "type": "not_found_error"}})

    def do_POST(self):
        size = int(self.headers.get("content-length", 0))
        raw = self.rfile.read(size) if size else self.chunks()
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = {}
        host, path = self.headers.get("host", ""), self.path
        if path.endswith("deviceauth/usercode"):
            return self.reply(200, {"device_auth_id": "1", "user_code": "LAB1-CODE2", "interval": "5"})
        if "deviceauth/token" in path:
            return self.reply(403, {"error": "authorization_pending"})
        if "oauth" in path or host.startswith("oauth2"):
            return self.reply(400, {"error": "invalid_grant", "error_description": "Malformed auth code."})
        keys = (self.headers.get("x-api-key"), self.headers.get("authorization"), self.headers.get("x-goog-api-key"))
        if any(key and "bad" in key for key in keys):
            error = {"type": "authentication_error", "message": "invalid x-api-key", "code": 401}
            return self.reply(401, {"type": "error", "error": error}, x_should_retry="false")
        text, tooled = asked(body)
        if "limit" in text:
            return self.reply(429, {"type": "error", "error": {"type": "rate_limit_error", "message": "You exceeded your current quota", "code": 429}})
        time.sleep(6 if "slow" in text else 2 if "brief" in text else 0)
        if path.startswith("/v1/messages") and "count_tokens" not in path:
            return self.claude(text, tooled, body)
        if path.startswith("/v1/responses"):
            return self.codex(text, tooled, body)
        if "streamGenerateContent" in path:
            return self.gemini(text, tooled)
        if "generateContent" in path:
            return self.reply(200, {"candidates": [{"content": {"role": "model", "parts": [{"text": '{"reasoning":"x","model_choice":"flash","complexity_reasoning":"x","complexity_score":1}'}]}, "finishReason": "STOP"}]})
        if path.startswith("/v1/chat/completions"):
            return self.aider(text, body)
        self.reply(404, {"error": {"message": "not here", "type": "not_found_error"}})

    def chunks(self):
        whole = b""
        while "chunked" in self.headers.get("transfer-encoding", ""):
            length = int(self.rfile.readline(), 16)
            whole += self.rfile.read(length)
            self.rfile.readline()
            if not length:
                break
        return whole

    def pieces(self, text):
        answer = QUOTE if "quote" in text else "Everything is as it should be."
        for line in answer.splitlines(True):
            yield line
            time.sleep(0.02 if "quote" in text else 0.3)
        if "slow" in text:
            time.sleep(3)

    def claude(self, text, tooled, body):
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body.get("model", "x"), "content": [],
                   "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1}}
        if not body.get("stream"):
            message.update(content=[{"type": "text", "text": "Recorded"}], stop_reason="end_turn")
            return self.reply(200, message)
        self.stream()
        self.event({"type": "message_start", "message": message}, "message_start")
        tools = [tool.get("name") for tool in body.get("tools", [])]
        stop = "end_turn"
        if any(word in text for word in ("tool", "edit", "ask")) and not tooled and "Bash" in tools:
            stop, name = "tool_use", "Write" if "edit" in text else "AskUserQuestion" if "ask" in text else "Bash"
            self.event({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}}, "content_block_start")
            arguments = json.dumps({"command": "touch recorded.txt", "description": "Makes a file"})
            if name == "Write":
                arguments = json.dumps({"file_path": "/tmp/recorded.txt", "content": "hello\n"})
            if name == "AskUserQuestion":
                options = [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}]
                arguments = json.dumps({"questions": [{"question": "Which colour do you like?", "header": "Colour", "multiSelect": False, "options": options}]})
            self.event({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": arguments}}, "content_block_delta")
        else:
            self.event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, "content_block_start")
            for piece in self.pieces(text):
                self.event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}, "content_block_delta")
        self.event({"type": "content_block_stop", "index": 0}, "content_block_stop")
        self.event({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 12}}, "message_delta")
        self.event({"type": "message_stop"}, "message_stop")

    def codex(self, text, tooled, body):
        self.stream()
        response = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}
        self.event({"type": "response.created", "response": response}, "response.created")
        say("codex", repr(text), tooled)
        if "tool" in text and not tooled:
            arguments = {"cmd": "touch recorded.txt", "sandbox_permissions": "require_escalated", "justification": "May a file be made?"}
            script = f"text(await tools.exec_command({json.dumps(arguments)}))"
            item = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "namespace": "functions", "name": "exec", "input": script}
        else:
            item = {"type": "message", "id": "m_1", "role": "assistant", "content": [{"type": "output_text", "text": ""}]}
            self.event({"type": "response.output_item.added", "output_index": 0, "item": item}, "response.output_item.added")
            whole = ""
            for piece in self.pieces(text):
                whole += piece
                self.event({"type": "response.output_text.delta", "item_id": "m_1", "output_index": 0, "content_index": 0, "delta": piece}, "response.output_text.delta")
            item = {**item, "content": [{"type": "output_text", "text": whole}]}
        self.event({"type": "response.output_item.done", "output_index": 0, "item": item}, "response.output_item.done")
        usage = {"input_tokens": 9, "output_tokens": 9, "total_tokens": 18}
        self.event({"type": "response.completed", "response": {**response, "status": "completed", "output": [item], "usage": usage}}, "response.completed")

    def gemini(self, text, tooled):
        self.stream()
        def part(part, finish=None):
            candidate = {"content": {"role": "model", "parts": [part]}, "index": 0}
            if finish:
                candidate["finishReason"] = finish
            usage = {"promptTokenCount": 9, "candidatesTokenCount": 9, "totalTokenCount": 18}
            self.event({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "recorded"})
        if "tool" in text and not tooled:
            part({"functionCall": {"name": "run_shell_command", "args": {"command": "touch recorded.txt", "description": "Makes a file"}}}, "STOP")
        else:
            for piece in self.pieces(text):
                part({"text": piece})
            part({"text": ""}, "STOP")

    def aider(self, text, body):
        if not body.get("stream"):
            message = {"role": "assistant", "content": "add a file"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
            return self.reply(200, {"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [choice], "usage": usage})
        self.stream()
        def chunk(delta, finish=None):
            self.event({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        chunk({"role": "assistant", "content": ""})
        if "edit" in text:
            chunk({"content": "hello.txt\n```\n<<<<<<< SEARCH\n=======\nhello\n>>>>>>> REPLACE\n```\n"})
        elif "tool" in text:
            chunk({"content": "Run this:\n```bash\ntouch recorded.txt\n```\n"})
        else:
            for piece in self.pieces(text):
                chunk({"content": piece})
        chunk({}, "stop")
        self.event("[DONE]")


def main(address, certificate, key):
    server = http.server.ThreadingHTTPServer((address, 443), Vendor)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    say("up")
    server.serve_forever()


main(*sys.argv[1:])
