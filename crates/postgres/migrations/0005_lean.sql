-- What each message paid for and few needed.
--
-- PostgreSQL reads the text of a table's check constraints again for every statement that writes to it,
-- and the inbox is written to once for each message, by this library alone, whose tests say what its
-- rows may look like.
--
-- Events without order do not belong into the index of ordered numbers: each would be entered there
-- twice, when it comes and when it is published.
--
-- The schema stands here as "redeliver."; another name is put in its place when it is applied.
alter table redeliver.inbox
    drop constraint inbox_state_check,
    drop constraint inbox_check,
    drop constraint inbox_check1,
    drop constraint inbox_check2;
do $$ begin
    -- Where a table of the team's is in the outbox's place, this is a view, and has no such index.
    if exists (select from pg_class where oid = to_regclass('redeliver.outbox') and relkind = 'r') then
        alter table redeliver.outbox drop constraint outbox_order_scope_order_seq_key;
        create unique index outbox_numbers on redeliver.outbox (order_scope, order_seq)
            where order_scope is not null;
    end if;
end $$;
