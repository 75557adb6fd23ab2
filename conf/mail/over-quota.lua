-- A warning at login when a mailbox is nearly full: in the log, and in the user's metadata for a webmail to show.
-- Run it around sessions (a listener of kind postlogin), or for all users: authlua mail run --all
--
-- The limit comes from the userdb field mail_limit (bytes); who has none has no limit.

local KEY = "/private/vendor/example.org/notice"

local function size_of(mailbox)
  local total = 0
  for mail in mailbox:mails{} do
    total = total + mail.size
  end
  return total
end

function mail_user_created(user)
  local limit = tonumber(user:var_expand("%{userdb:mail_limit}"))
  if limit == nil then
    return 0
  end
  local inbox = user:mailbox("INBOX")
  local used = size_of(inbox)
  inbox:free()
  if used > limit * 0.9 then
    local text = ("%.0f%% of your mail space is used"):format(100 * used / limit)
    dovecot.i_warning(user.username .. ": " .. text)
    pcall(user.metadata_set, user, KEY, text) -- where metadata is not enabled, the log has to do
  else
    pcall(user.metadata_unset, user, KEY)
  end
  return 0
end
