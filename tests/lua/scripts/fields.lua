-- Every member of a request, a log line each: "PROBE database name = value".

local NAMES = {
  "user", "username", "domain", "domain_first", "domain_last", "service", "protocol", "home", "lip", "rip", "lport",
  "rport", "local_ip", "remote_ip", "local_port", "remote_port", "real_lip", "real_rip", "real_lport", "real_rport",
  "real_local_ip", "real_remote_ip", "real_local_port", "real_remote_port", "pid", "client_pid", "session_pid",
  "session", "password", "mech", "mechanism", "secured", "cert", "login_user", "login_username", "login_domain",
  "master_user", "orig_user", "original_user", "orig_username", "orig_domain", "original_username", "original_domain",
  "auth_user", "auth_username", "auth_domain", "local_name", "client_id", "id", "ssl_ja3_hash", "owner_user",
  "skip_password_check", "passdbs_seen_user_unknown", "passdbs_seen_internal_failure", "userdbs_seen_internal_failure",
}

local function probe(req, kind)
  for _, name in ipairs(NAMES) do
    local value = req[name]
    dovecot.i_info(("PROBE %s %s = %s %s"):format(kind, name, type(value), tostring(value)))
  end
  for _, name in ipairs { "forward_a", "forward_b", "kept", "allow_nets" } do
    dovecot.i_info(("PROBE %s passdb.%s = %s"):format(kind, name, tostring(req.passdb[name])))
  end
end

function auth_passdb_lookup(req)
  probe(req, "passdb")
  return dovecot.auth.PASSDB_RESULT_OK, { password = "{PLAIN}pass", kept = "k" }
end

function auth_userdb_lookup(req)
  probe(req, "userdb")
  return dovecot.auth.USERDB_RESULT_OK, { uid = "5000", gid = "5000" }
end
