-- Keeps people out with a message that an administrator has set, one user at a time:
--   doveadm mailbox metadata set -u alice INBOX /private/vendor/vendor.dovecot/pvt/server/vendor/example.org/closed \
--     "Please call the help desk"
-- A user can set it too, and would lock only themselves out. For a listener of kind postlogin.
-- Needs metadata: [mail] attribute_dict, or an IMAP server that has it. Without, nobody gets in.

local CLOSED = "/private/vendor/example.org/closed"
local LAST = "/private/vendor/example.org/last-login"

function mail_user_created(user)
  local closed = user:metadata_get(CLOSED)
  if closed and closed ~= "" then
    return -1, closed
  end
  user:metadata_set(LAST, os.date("!%Y-%m-%dT%H:%M:%SZ"))
  return 0
end
