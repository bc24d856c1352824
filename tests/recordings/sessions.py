"""The sessions that record.py records: (kind, size, environment, files, command, steps) by name."""

import json
import os
import tomllib

CTRL_C, ENTER, DOWN, UP, ESC, CTRL_O = "\x03", "\r", "\x1b[B", "\x1b[A", "\x1b", "\x0f"

SIZES = {"80x24": (80, 24), "120x40": (120, 40), "61x19": (61, 19), "200x60": (200, 60)}
ODD = {"100x30": (100, 30), "50x16": (50, 16), "40x12": (40, 12), "50x20": (50, 20)}

SESSIONS = {}


def at_each_size(name, kind, environment, files, command, steps, sizes=("80x24", "120x40")):
    for size in sizes:
        SESSIONS[f"{name}-{size}"] = (kind, {**SIZES, **ODD}[size], environment, files, command, steps)


def seeded(kind, path):
    """A file that the service would write into the home."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, f"../../policies/agents/{kind}.toml"), "rb") as file:
        return next(seed["content"] for seed in tomllib.load(file)["launch"]["file"] if seed["path"] == path)


def mark(state, **login):
    return ("mark", state, login)


# Claude Code

KEY = {"ANTHROPIC_API_KEY": "sk-ant-recorded-0123456789-0123456789"}
BAD = {"ANTHROPIC_API_KEY": "sk-ant-bad-key-0123456789-0123456789"}


def known(key=None, extra=None):
    known = {"hasCompletedOnboarding": True, "theme": "dark", "projects": {"WORK": {"hasTrustDialogAccepted": True}}}
    if key:
        known["customApiKeyResponses"] = {"approved": [key[-20:]], "rejected": []}
    return {"~/.claude.json": json.dumps(known)}


at_each_size("claude-subscription", "claude", {}, {}, [], [
    ("see", "Choose the text style"), 1.5, mark("blocked"), ENTER, ("see", "Select login method"), 1.5,
    mark("login-required"), ENTER, ("see", "Paste code here"), 3, mark("login-required", url=True), ENTER, 2,
    mark("login-required"), ENTER, 4, mark("login-required", url=True), "wrong#code", 1, mark("login-required", url=True), ENTER, 3,
    mark("login-required"),
], sizes=SIZES)
at_each_size("claude-console", "claude", {}, {}, [], [
    ("see", "Choose the text style"), 1.5, mark("blocked"), ENTER, ("see", "Select login method"), 1.5,
    mark("login-required"), DOWN, 0.5, ENTER, ("see", "Paste code here"), 3, mark("login-required", url=True),
    CTRL_C, 0.5, CTRL_C, 0.5, CTRL_C, 3, mark("exited"),
])
at_each_size("claude-key", "claude", KEY, {}, [], [
    ("see", "Choose the text style"), 1.5, mark("blocked"), ENTER, ("see", "Do you want to use this API key"), 1.5,
    mark("blocked"), UP, 0.4, ENTER, ("see", "Press Enter"), 1.5, mark("blocked"), ENTER,
    ("see", "Is this a project"), 1.5, mark("blocked"), ENTER, ("see", "for shortcuts"), 2.5, mark("ready"),
    "hello", 1, mark("ready"), ENTER, 4, mark("ready"), CTRL_C, 0.4, CTRL_C, 3, mark("exited"),
])
at_each_size("claude-turns", "claude", KEY, known(KEY["ANTHROPIC_API_KEY"]), [], [
    ("see", "for shortcuts"), 2.5, mark("ready"), "be slow please", 0.5, ENTER, 3, mark("busy"), 10, mark("ready"),
    "use the tool", 0.5, ENTER, ("see", "Do you want to proceed"), 1.5, mark("blocked"), ENTER, 4, mark("ready"),
    "now quote", 0.5, ENTER, 7, mark("ready"), "a fresh word", 1, mark("ready"),
], sizes=SIZES)
at_each_size("claude-no-login", "claude", {}, known(), [], [
    ("see", "for shortcuts"), 3, mark("login-required"), "hello", 0.5, ENTER, 3, mark("login-required"),
    "/login", 0.5, ENTER, 2, mark("login-required"), ENTER, ("see", "Paste code here"), 3, mark("login-required", url=True),
    ESC, 2, mark("login-required"),
])
at_each_size("claude-bad-key", "claude", BAD, known(BAD["ANTHROPIC_API_KEY"]), [], [
    ("see", "for shortcuts"), 2.5, mark("ready"), "hello", 0.5, ENTER, 5, mark("ready"),
])
at_each_size("claude-third-party", "claude", {}, {}, [], [
    ("see", "Choose the text style"), 1.5, mark("blocked"), ENTER, ("see", "Select login method"), 1.5,
    mark("login-required"), DOWN, 0.5, DOWN, 0.5, ENTER, 3, mark("login-required"),
], sizes=("80x24",))
at_each_size("claude-edit", "claude", KEY, known(KEY["ANTHROPIC_API_KEY"]), [], [
    ("see", "for shortcuts"), 2.5, mark("ready"), "edit it please", 0.5, ENTER, ("see", "Do you want to"), 1.5, mark("blocked"), ESC, 2, mark("ready"),
    "/theme", 0.6, ENTER, 2, mark("blocked"), ESC, 2, mark("ready"), "/", 1, mark("ready"), ESC, 0.5, "?", 1, mark("ready"),
], sizes=("80x24", "61x19"))
SESSIONS["claude-bypass-80x24"] = ("claude", SIZES["80x24"], KEY, known(KEY["ANTHROPIC_API_KEY"]), ["claude", "--dangerously-skip-permissions"], [
    ("see", "Bypass"), 3, mark("blocked"),
])
SESSIONS["claude-offline-80x24"] = ("claude", SIZES["80x24"], {**KEY, "ANTHROPIC_BASE_URL": "https://127.0.0.1:9"}, known(KEY["ANTHROPIC_API_KEY"]), [], [
    ("see", "for shortcuts"), 2.5, mark("ready"), "hello", 0.5, ENTER, 8, mark("busy"), 6, mark("busy"),
])
SESSIONS["claude-auth-login-80x24"] = ("claude", SIZES["80x24"], {}, {}, ["claude", "auth", "login"], [
    ("see", "Paste code here"), 2, mark("login-required", url=True), "x\r", 2,
])
SESSIONS["claude-setup-token-120x40"] = ("claude", SIZES["120x40"], {}, {}, ["claude", "setup-token"], [
    ("see", "Paste code here"), 2, mark("login-required", url=True),
])
CLAUDE = (KEY, known(KEY["ANTHROPIC_API_KEY"]), [])
at_each_size("claude-dialogs", "claude", *CLAUDE, [
    ("see", "for shortcuts"), 2.5, mark("ready"), "/config", 0.7, ENTER, 2.5, mark("blocked"), ESC, 1, ESC, 2.5, mark("ready"),
    "/permissions", 0.7, ENTER, 2.5, mark("blocked"), ESC, 2.5, mark("ready"), "/help", 0.7, ENTER, 2.5, mark("blocked"), ESC, 2.5, mark("ready"),
    "/agents", 0.7, ENTER, 2.5, mark("blocked"), ESC, 2.5, mark("ready"), "hello", 0.5, ENTER, 4, mark("ready"),
    CTRL_O, 2.5, mark("blocked"), CTRL_O, 2.5, mark("ready"), "!", 2, mark("ready"), "sleep 3", 0.5, ENTER, 2, mark("busy"), 5, mark("ready"),
], sizes=("100x30", "50x16"))
at_each_size("claude-reports", "claude", CLAUDE[0], {**CLAUDE[1], "~/.claude/settings.json": seeded("claude", ".claude/settings.json")}, [], [
    ("see", "for shortcuts"), 2.5, mark("ready"), "be slow please", 0.5, ENTER, 3, mark("busy"), ESC, 4, mark("ready"),
    "use the tool", 0.5, ENTER, ("see", "Do you want to proceed"), 1.5, mark("blocked"), ESC, 4, mark("ready"),
    "hello", 0.5, ENTER, 14, mark("ready"), CTRL_C, 0.4, CTRL_C, 3, mark("exited"),
], sizes=("80x24",))
at_each_size("claude-ask", "claude", *CLAUDE, [
    ("see", "for shortcuts"), 2.5, mark("ready"), "ask me", 0.5, ENTER, ("see", "Which colour"), 2, mark("blocked"), DOWN, 1.5, mark("blocked"),
    ESC, 3, mark("ready"),
], sizes=("61x19",))
at_each_size("claude-narrow", "claude", {}, {}, [], [
    ("see", "Choose the text style"), 1.5, mark("blocked"), ENTER, ("see", "Select login method"), 1.5,
    mark("login-required"), ENTER, ("see", "Paste code here"), 3, mark("login-required", url=True),
], sizes=("40x12",))

# Codex

OPEN_KEY = {"OPENAI_API_KEY": "sk-recorded-0123456789"}
SIGNED = {"~/.codex/auth.json": json.dumps({"auth_mode": "apikey", "OPENAI_API_KEY": "sk-recorded-0123456789"})}
TRUSTED = {"~/.codex/config.toml": '[projects."WORK"]\ntrust_level = "trusted"\n'}
ASKS = ["codex", "--no-daemon", "-s", "read-only", "-a", "on-request"]

at_each_size("codex-browser", "codex", {}, {}, [], [
    ("see", "Sign in with ChatGPT"), 2, mark("login-required"), ENTER, ("see", "Finish signing in"), 2,
    mark("login-required", url=True), ESC, 2, mark("login-required"), CTRL_C, 3, mark("exited"),
], sizes=SIZES)
at_each_size("codex-device", "codex", {}, {}, [], [
    ("see", "Sign in with ChatGPT"), 2, mark("login-required"), DOWN, 0.5, ENTER, ("see", "one-time code after"), 2,
    mark("login-required", url=True, userCode="LAB1-CODE2"), 3, mark("login-required", url=True, userCode="LAB1-CODE2"),
], sizes=SIZES)
at_each_size("codex-key", "codex", {}, {"~/.git-is-missing": ""}, [], [
    ("see", "Sign in with ChatGPT"), 2, mark("login-required"), DOWN, 0.4, DOWN, 0.4, ENTER, 2, mark("login-required"), ENTER, 2,
    mark("login-required"), "sk-recorded-0123456789", 0.5, ENTER, 8, mark("blocked"), ENTER, 6, mark("ready"),
])
at_each_size("codex-trust", "codex", {"git": "yes"}, SIGNED, ASKS, [
    ("see", "Trust this folder", 30), 2, mark("blocked"), ENTER, 5, mark("ready"), CTRL_C, 3, mark("exited"),
])
at_each_size("codex-turns", "codex", {}, {**SIGNED, **TRUSTED}, ASKS, [
    ("see", "Ask Codex"), 8, mark("ready"), "be slow please", 0.5, ENTER, 4, mark("busy"), 18, mark("ready"),
    "use the tool", 0.5, ENTER, ("see", "Would you like to run"), 2, mark("blocked"), ENTER, 6, mark("ready"),
    "now quote", 0.5, ENTER, 12, mark("ready"), "a fresh word", 1, mark("ready"),
], sizes=SIZES)
at_each_size("codex-offline", "codex", {"OPENAI_BASE_URL": "https://127.0.0.1:9/v1"}, {**SIGNED, **TRUSTED}, [*ASKS, "-c", "openai_base_url=\"https://127.0.0.1:9/v1\""], [
    ("see", "Ask Codex"), 6, mark("ready"), "hello", 0.5, ENTER, 10, mark("busy"), 10, mark("busy"),
], sizes=("80x24",))
SESSIONS["codex-daemon-80x24"] = ("codex", SIZES["80x24"], {"git": "yes"}, SIGNED, ["codex", "-s", "danger-full-access"], [
    ("see", "Trust this folder", 90), 3, mark("blocked"), ENTER, 6, mark("ready"),
])
SESSIONS["codex-login-80x24"] = ("codex", SIZES["80x24"], {}, {}, ["codex", "login"], [
    ("see", "navigate to this URL"), 2, mark("login-required", url=True),
])
SESSIONS["codex-login-device-80x24"] = ("codex", SIZES["80x24"], {}, {}, ["codex", "login", "--device-auth"], [
    ("see", "one-time code"), 2, mark("login-required", url=True, userCode="LAB1-CODE2"),
])
at_each_size("codex-dialogs", "codex", {}, {**SIGNED, **TRUSTED}, ASKS, [
    ("see", "Ask Codex"), 8, mark("ready"), "/model", 0.7, ENTER, 2.5, mark("blocked"), ESC, 2.5, mark("ready"),
    "/permissions", 0.7, ENTER, 2.5, mark("blocked"), ESC, 2.5, mark("ready"), "/resume", 0.7, ENTER, 3, mark("blocked"), ESC, 2.5, mark("ready"),
    "?", 2, mark("ready"), "\x7f", 1, "press enter to continue", 2, mark("ready"), "\x15", 1, "the limit", 0.5, ENTER, 12, mark("ready"),
], sizes=("100x30", "50x16"))
NEWER = {"~/.codex/version.json": json.dumps({"latest_version": "0.999.0", "last_checked_at": "2026-11-26T20:00:00Z", "dismissed_version": None})}
at_each_size("codex-update", "codex", {}, NEWER, ASKS, [8, mark("blocked"), DOWN, 0.5, ENTER, 5, mark("login-required")], sizes=("100x30",))

# Gemini CLI

GEM_KEY = {"GEMINI_API_KEY": "AIzaRecorded0123456789"}
TRUST = {"~/.gemini/trustedFolders.json": json.dumps({"WORK": "TRUST_FOLDER"})}
BY_KEY = {"~/.gemini/settings.json": json.dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}})}

at_each_size("gemini-google", "gemini", {}, {}, [], [
    ("see", "Do you trust the files"), 2, mark("blocked"), ENTER, ("see", "How would you like to authenticate"), 3, mark("login-required"),
    ENTER, ("see", "Enter the authorization code"), 2, mark("login-required", url=True), "wrong", ENTER, 4, mark("login-required", url=True),
], sizes=SIZES)
at_each_size("gemini-display", "gemini", {"DISPLAY": ":9"}, TRUST, [], [
    ("see", "How would you like to authenticate"), 3, mark("login-required"), ENTER, 3, mark("login-required"), ENTER, 2,
    mark("login-required", url=True),
])
at_each_size("gemini-key", "gemini", {}, TRUST, [], [
    ("see", "How would you like to authenticate"), 3, mark("login-required"), DOWN, 0.5, ENTER, 2, mark("login-required"),
    "AIzaRecorded0123456789", 0.5, ENTER, 5, mark("ready"), CTRL_C, 0.4, CTRL_C, 3, mark("exited"),
])
at_each_size("gemini-turns", "gemini", GEM_KEY, {**TRUST, **BY_KEY}, [], [
    ("see", "Type your message"), 3, mark("ready"), "be brief please", 0.7, ENTER, 2, mark("busy"), ("see", "should be."), 3, mark("ready"),
    "use the tool", 0.7, ENTER, ("see", "Allow execution"), 1.5, mark("blocked"), ENTER, 4, mark("ready"),
    "now quote", 0.7, ENTER, ("see", "Not logged in"), 3, mark("ready"), "a fresh word", 1, mark("ready"),
], sizes=SIZES)
at_each_size("gemini-dialogs", "gemini", GEM_KEY, {**TRUST, **BY_KEY}, [], [
    ("see", "Type your message"), 3, mark("ready"), "/theme", 0.7, ENTER, 2.5, mark("blocked"), ESC, 2.5, mark("ready"),
    "/settings", 0.7, ENTER, 2.5, mark("blocked"), ESC, 2.5, mark("ready"), "/model", 0.7, ENTER, 2.5, mark("blocked"), ESC, 2.5, mark("ready"),
    "/auth", 0.7, ENTER, 2.5, mark("login-required"), ESC, 2.5, mark("ready"),
], sizes=("50x20",))
at_each_size("gemini-resized", "gemini", {}, TRUST, [], [
    ("see", "How would you like to authenticate"), 3, mark("login-required"), ("resize", 60, 20), 2, mark("login-required"),
    ENTER, ("see", "Enter the authorization code"), 2, mark("login-required", url=True), ("resize", 132, 30), 2, mark("login-required", url=True),
], sizes=("40x12",))

# aider

QUIET = ["aider", "--no-check-update", "--no-show-release-notes", "--no-analytics"]
at_each_size("aider-openrouter", "aider", {}, {}, QUIET, [
    ("see", "No git repo found"), 1.5, mark("blocked"), "n\r", ("see", "Login to OpenRouter"), 1.5, mark("login-required"), "y\r",
    ("see", "Waiting up to 5 minutes"), 2, mark("login-required", url=True), CTRL_C, 3, mark("blocked"),
], sizes=SIZES)
at_each_size("aider-turns", "aider", {**OPEN_KEY, "git": "yes"}, {}, [*QUIET, "--model", "gpt-4o", "--no-show-model-warnings"], [
    ("see", "gitignore"), 1.5, mark("blocked"), "n\r", ("see", "Repo-map"), 2, mark("ready"), "be slow please\r", 3, mark("busy"), ("see", "Tokens:"), 2, mark("ready"),
    "edit it\r", ("see", "Create new file"), 1.5, mark("blocked"), "y\r", ("see", "Commit"), 2, mark("ready"), "tool\r", ("see", "Run shell"), 1.5, mark("blocked"),
    "n\r", 3, mark("ready"), "quote\r", ("see", "Tokens:"), 2, mark("ready"),
    CTRL_C, 0.3, CTRL_C, 2, mark("exited"),
], sizes=SIZES)
at_each_size("aider-resized", "aider", {}, {}, QUIET, [
    ("see", "No git repo found"), 1.5, mark("blocked"), "n\r", ("see", "Login to OpenRouter"), 1.5, mark("login-required"), "maybe\r", 2,
    mark("login-required"), "y\r", ("see", "Waiting up to 5 minutes"), 2, mark("login-required", url=True), ("resize", 60, 20), 2,
    mark("login-required", url=True), ("resize", 132, 30), 2, mark("login-required", url=True),
], sizes=("100x30",))
at_each_size("aider-bad-key", "aider", {"OPENAI_API_KEY": "bad"}, {}, [*QUIET, "--no-git", "--model", "gpt-4o"], [
    15, mark("ready"), "hello\r", 8, mark("ready"),
], sizes=("80x24",))

# A shell

at_each_size("shell", "shell", {}, {}, [], [
    2, mark("ready"), "echo hello\r", 1, mark("ready"), "sleep 3\r", 1, mark("busy"), 3, mark("ready"),
    "printf 'Paste code here if prompted >'; sleep 1\r", 3, mark("ready"),
], sizes=("80x24",))
