-- A table of all users' unseen mail: authlua mail run --all --script conf/mail/unseen-report.lua
-- One line each: user, mails and unseen mails in INBOX, and how long ago the oldest unseen one came, in days.

function mail_user_created(user)
  local inbox = user:mailbox("INBOX")
  local status = inbox:status(dovecot.storage.STATUS_UNSEEN)
  local oldest
  for mail in inbox:mails{ unseen = true } do
    oldest = math.min(oldest or mail.received, mail.received)
  end
  inbox:free()
  local days = oldest and ("%6d"):format(math.floor((os.time() - oldest) / 86400)) or "     -"
  dovecot.i_info(("%-30s %7d %7d %s"):format(user.username, status.messages, status.unseen, days))
  return 0
end
