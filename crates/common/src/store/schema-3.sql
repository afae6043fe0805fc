-- SPDX-License-Identifier: Apache-2.0
-- What is nobody's is found without a look at what is somebody's, which has no entry here.
CREATE INDEX address_unclaimed ON address_record (set_id, unclaimed) WHERE unclaimed IS NOT NULL;

-- When the pool was last asked for. Docker's list of networks may not have that network yet. 0: before this was
-- recorded.
ALTER TABLE pool_record ADD COLUMN requested INTEGER NOT NULL DEFAULT 0;
