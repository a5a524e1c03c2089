-- SPDX-License-Identifier: GPL-3.0-or-later
-- The tables that the test hosts and the demo sync. `shop.loaded` comes last and says that all of it is there.
CREATE DATABASE IF NOT EXISTS test CHARACTER SET utf8mb4;
CREATE DATABASE IF NOT EXISTS shop CHARACTER SET utf8mb4;

-- The article's table.
CREATE TABLE IF NOT EXISTS test.user_list (name VARCHAR(64), password VARCHAR(64)) ENGINE=InnoDB;
INSERT INTO test.user_list VALUES ('troy', 'pwd');

-- A table as applications have them.
CREATE TABLE IF NOT EXISTS shop.customer (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(100) NOT NULL,
  city VARCHAR(60) NULL,
  balance DECIMAL(20, 4) NOT NULL DEFAULT 0,
  ratio DOUBLE NULL,
  avatar VARBINARY(64) NULL,
  profile JSON NULL,
  seen TIMESTAMP(3) NULL,
  internal_note TEXT NULL
) ENGINE=InnoDB;

-- Names that need quoting.
CREATE TABLE IF NOT EXISTS shop.`order items` (
  `order` INT NOT NULL, `line no` INT NOT NULL, `größe` VARCHAR(20) NULL, PRIMARY KEY (`order`, `line no`)
) ENGINE=InnoDB;

-- The application of tests/harness/failover.py.
CREATE TABLE IF NOT EXISTS shop.item (id INT PRIMARY KEY, version INT, name VARCHAR(40)) ENGINE=InnoDB;
CREATE TABLE IF NOT EXISTS shop.history (
  id INT NOT NULL, version INT NOT NULL, event VARCHAR(6), PRIMARY KEY (id, version)
) ENGINE=InnoDB;

-- Two tables that cannot be synced by key, for the tests of bad input.
CREATE TABLE IF NOT EXISTS shop.no_key (a INT, b INT) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS shop.loaded (done TINYINT NOT NULL) ENGINE=InnoDB;
